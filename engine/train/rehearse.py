"""The batch that takes the most memory, run once early: a GPU that is too small for it says so at once and not after hours."""

from __future__ import annotations

import torch

from engine.data.prepare import Tokens
from engine.train import batches, step
from engine.train.model import Loaded


def rehearse(loaded: Loaded, tokens: Tokens, *, rows_at_once: int, pad_id: int) -> None:
    """Forward and backward over the longest rows; weights and random generators stay as they were, gradients are dropped.

    To be called when the optimizer has its state, which takes its share.

    Raises:
        torch.OutOfMemoryError: the run would meet it sooner or later.
    """
    longest = (-batches.row_lengths(tokens)).argsort(kind="stable")[:rows_at_once]
    with torch.random.fork_rng([loaded.device] if loaded.device.type == "cuda" else []):
        for batch in batches.micro_batches(tokens, longest, rows_at_once, pad_id):
            step.forward_backward(loaded.model, batch.to(loaded.device), 1, loaded.autocast)
    loaded.model.zero_grad(set_to_none=True)
