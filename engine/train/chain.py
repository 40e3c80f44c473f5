"""A run that goes on from another's result: what it starts with, and what the ledger keeps of that.

The profile has seen to base, method and shape already (`engine.lineage`). Here the files themselves are looked at: nothing is trained on that is not
what the parent left.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from engine import folders, lineage
from engine.errors import Problem
from engine.ledger import jobs, runs
from engine.ledger.runs import Run
from engine.train import fingerprints, pretrained
from engine.train.model import Loaded
from engine.train.parts import Parts
from engine.train.sharded import part, whole


def start(parts: Parts) -> None:
    """Make the freshly loaded model what the run's parent left: its adapter is loaded here, a whole model is the profile's base already.

    Raises:
        Problem: the parent or its result is gone, damaged or has changed since the run began, or its adapter is for another base.
    """
    if parts.run.parent is None:
        return
    jobs.beat(parts.ledger, parts.job, doing="looking at what it goes on from")
    parent = lineage.parent_of(parts.ledger, parts.run)
    folder = lineage.result_of(parent)
    found = _checked(parts, parent, folder)
    if parent.result_kind == "adapter":
        _check_base(parts, parent)
        load_adapter(parts.loaded, folder, parent.name)
    runs.record(
        parts.ledger,
        parts.run,
        fingerprints={"parent": found},
        environment={"lineage": lineage.recorded(parts.ledger, parent)},
    )
    parts.event(
        "parent", f"Started from the {parent.result_kind} of {parent.name}", step=0, detail={"fingerprint": found}
    )


def begins_with_adapter(parts: Parts) -> bool:
    """Whether the adapter that the run trains was somebody's result before: then the model it began with is the one with it on."""
    return parts.run.parent is not None and lineage.parent_of(parts.ledger, parts.run).result_kind == "adapter"


def _checked(parts: Parts, parent: Run, folder: Path) -> str:
    """The fingerprint of the parent's result as it is on disk."""
    wrong = folders.damage(folder)
    if wrong:
        raise Problem(
            f"The result of {parent.name} is damaged",
            f"{folder}: {wrong}.",
            f"Put it back from a copy, or resume {parent.name} from a checkpoint to write it again.",
            code="changed",
        )
    found = folders.published_fingerprint(folder)
    known = runs.document(parts.ledger, parts.run).fingerprints.get("parent", found)
    if found != known:
        raise Problem(
            f"The result of {parent.name} has changed since {parts.run.name} began with it",
            "Its files have another fingerprint, and there is no checkpoint yet to go on from.",
            "Start the profile anew: it then begins with what stands there now.",
            code="changed",
        )
    return found


def _check_base(parts: Parts, parent: Run) -> None:
    trained_on = runs.document(parts.ledger, parent).fingerprints.get("base")
    here = fingerprints.of_base(pretrained.fetch(parts.profile.model))
    if trained_on is not None and trained_on != here:
        raise Problem(
            f"The adapter of {parent.name} is for another base model",
            f"The files of {parts.profile.model.base} have another fingerprint than those it was trained on.",
            f"Put back the files that {parent.name} was trained on, or start from the base model.",
            code="changed",
        )


def load_adapter(loaded: Loaded, folder: Path, name: str) -> None:
    """Put the adapter that the run `name` left in `folder` in the place of a fresh one, and see that all of it arrived.

    Raises:
        Problem: it is not there, or has another shape.
    """
    assert isinstance(loaded.model, PeftModel)
    wrong = ""
    try:
        saved = load_file(folder / "adapter_model.safetensors")
        fresh = get_peft_model_state_dict(loaded.model, save_embedding_layers=False)
        cut = {key: part(weight, fresh[key]) if key in fresh else weight for key, weight in saved.items()}
        with torch.no_grad():
            set_peft_model_state_dict(loaded.model, cut)
        # Names that do not fit are passed over in silence, by PEFT and by torch: what counts is what the model now has.
        fresh = get_peft_model_state_dict(loaded.model, save_embedding_layers=False)
        now = {key: whole(weight.detach()).cpu() for key, weight in fresh.items()}
        different = sorted(
            key
            for key in saved.keys() | now.keys()
            if key not in saved or key not in now or not saved[key].equal(now[key])
        )
        wrong = f"{different[0]} is not the same in both" if different else ""
    except (OSError, RuntimeError, KeyError, ValueError, SafetensorError) as error:
        wrong = str(error).splitlines()[0]
    if wrong:
        raise Problem(
            f"The adapter of {name} cannot be gone on from",
            f"{folder}: {wrong}.",
            "Take the method's settings over from that run, or start from the base model.",
            code="model",
        )
