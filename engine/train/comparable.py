"""What makes two validation losses comparable: the same rows as tokens, of which the same count, under the same objective."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from engine.data.tokens import Tokens
from engine.ledger.runs import Run
from engine.profile import Profile


def comparable(validation: Tokens, profile: Profile, run: Run) -> str:
    """A hash that is equal for runs whose validation losses may be held against each other; empty where nothing is validated on.

    The tokens have the template and the tokenizer in them, and the mask says what the loss counts. A preference loss is measured
    against the model that the run began with, so that is part of it.
    """
    if not len(validation):
        return ""
    training = profile.training
    asked: list[object] = ["likelihood"]  # under sft and pretrain alike: they differ in what the mask counts
    if training.objective == "orpo":
        asked = ["orpo", training.beta]
    elif training.objective == "dpo":
        model = profile.model
        asked = ["dpo", training.beta, training.length_normalised, model.base, model.revision, run.parent]
    digest = hashlib.sha256(json.dumps(asked).encode())
    for column, kind in ((validation.ids, "<i4"), (validation.supervised, "|b1"), (validation.starts, "<i8")):
        digest.update(np.ascontiguousarray(column, kind).data)
    return digest.hexdigest()
