"""Validation: the loss of rows that are not trained on, and what the model writes. Neither leaves a trace in the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from engine.data.prepare import Tokens
from engine.train.batches import Layout
from engine.train.model import Loaded
from engine.train.objective import Objective
from engine.train.ranks import ALONE, Ranks

SAMPLE_TOKENS = 48


class Interrupted(Exception):  # noqa: N818 - no error: what was asked for
    """Validation was left before its end; nothing of it counts."""


@contextmanager
def asking(loaded: Loaded) -> Iterator[None]:
    """Evaluation mode without gradients; dropout is off, so no random number is drawn."""
    loaded.model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        loaded.model.train()


def validation_loss(
    loaded: Loaded,
    scorer: nn.Module,
    objective: Objective,
    tokens: Tokens,
    layout: Layout,
    *,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
    equally: bool = False,
) -> dict[str, float]:
    """The objective's mean over all examples of `tokens` (key `loss`), and what else it tells.

    One micro-batch's logits live at a time: kept ones would fill the memory (transformers#12878). `stop` is asked between two.
    Divided between `ranks`; `equally` as they need it (see `Ranks.pieces`).

    Raises:
        Interrupted: `stop` said so.
    """
    examples = range(tokens.examples)
    totals: dict[str, float] = {"loss": 0.0}
    with asking(loaded):
        for piece in ranks.pieces(tokens, examples, layout, equally=equally):
            if stop():
                raise Interrupted
            found = objective.loss(scorer, piece.batch.to(loaded.device))
            for name, value in {"loss": found.total, **found.told}.items():
                totals[name] = totals.get(name, 0.0) + (float(value) if piece.counts else 0.0)
    count = max(1, objective.count(tokens, examples))
    return {name: total / count for name, total in ranks.summed(totals).items()}


def sample(
    loaded: Loaded, tokens: Tokens, row: int, *, end_ids: tuple[int, ...], pad_id: int
) -> tuple[list[int], list[int]]:
    """The prompt of a row and what the model goes on with, greedily, as tokens; both empty where nothing is to be answered."""
    inside = slice(int(tokens.starts[row]), int(tokens.starts[row + 1]))
    supervised = tokens.supervised[inside]
    if not supervised.any() or not supervised.argmax():
        return [], []
    prompt: list[int] = tokens.ids[inside][: int(supervised.argmax())].tolist()
    model: Any = loaded.model  # generate is a mixin's, which its classes do not declare
    with (
        asking(loaded),
        torch.autocast(loaded.device.type, dtype=loaded.autocast, enabled=loaded.autocast is not None),
    ):
        ids = torch.tensor([prompt], device=loaded.device)
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=SAMPLE_TOKENS,
            do_sample=False,
            eos_token_id=list(end_ids) or None,
            pad_token_id=pad_id,
        )
    return prompt, written[0, len(prompt) :].tolist()
