"""The batch that takes the most memory, run once early: a GPU that is too small for it says so at once and not after hours."""

from __future__ import annotations

import torch
from torch import nn

from engine.data.prepare import Tokens
from engine.train import batches, step
from engine.train.batches import Layout
from engine.train.model import Loaded
from engine.train.objective import Objective


def rehearse(loaded: Loaded, scorer: nn.Module, objective: Objective, tokens: Tokens, layout: Layout) -> None:
    """Forward and backward over the longest examples; weights and random generators stay as they were, gradients are dropped.

    To be called when the optimizer has its state, which takes its share.

    Raises:
        torch.OutOfMemoryError: the run would meet it sooner or later.
    """
    lengths = batches.row_lengths(tokens).reshape(-1, tokens.per_example).max(axis=1)
    count = max(1, layout.rows_at_once // tokens.per_example)
    longest = (-lengths).argsort(kind="stable")[:count]
    with torch.random.fork_rng([loaded.device] if loaded.device.type == "cuda" else []):
        for batch in batches.micro_batches(tokens, longest, layout):
            step.forward_backward(objective, scorer, batch.to(loaded.device), 1)
    loaded.model.zero_grad(set_to_none=True)
