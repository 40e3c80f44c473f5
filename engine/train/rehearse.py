"""The batch that takes the most memory, run once early: a GPU that is too small for it says so at once and not after hours."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from engine.data.prepare import Tokens
from engine.fit.question import Step
from engine.profile import Training
from engine.train import batches, step
from engine.train.batches import Integers, Layout
from engine.train.model import Loaded
from engine.train.objective import Objective


def rehearse(
    loaded: Loaded,
    scorer: nn.Module,
    objective: Objective,
    tokens: Tokens,
    layout: Layout,
    effective_batch: int,
    *,
    after_forward: Callable[[], None] | None = None,
) -> None:
    """Forward and backward over the costliest examples; weights and random generators stay as they were, gradients are dropped.

    To be called when the optimizer has its state, which takes its share. `after_forward` is called between forward and backward.

    Raises:
        torch.OutOfMemoryError: the run would meet it sooner or later.
    """
    examples = costliest(tokens, layout, effective_batch)
    with torch.random.fork_rng([loaded.device] if loaded.device.type == "cuda" else []):
        for batch in batches.micro_batches(tokens, examples, layout):
            step.forward_backward(objective, scorer, batch.to(loaded.device), 1, after_forward=after_forward)
    loaded.model.zero_grad(set_to_none=True)


def largest(tokens: Tokens, layout: Layout, training: Training, ranks: int) -> Step:
    """The costliest micro-batch of a run's training, as what is said of its memory is to be about."""
    share = -(-training.effective_batch // ranks)
    examples = costliest(tokens, layout, share)
    batch = next(batches.micro_batches(tokens, examples, layout))
    at_once = layout.rows_at_once if layout.row_tokens is None else layout.rows_at_once * layout.row_tokens
    lengths = np.sort(batches.example_lengths(tokens, range(tokens.examples)))[-share:]
    needed = len(lengths) * tokens.per_example if layout.row_tokens is None else int(lengths.sum())
    return Step(
        rows=batch.ids.shape[0],
        tokens=batch.ids.shape[1],
        supervised=len(batch.targets),
        packed=layout.row_tokens is not None,
        checkpointing=training.checkpoint_activations is True,
        accumulates=needed > at_once,
    )


def costliest(tokens: Tokens, layout: Layout, effective_batch: int) -> Integers:
    """Examples that take as much memory as any that a forward pass may get.

    Padded: the longest. Packed: the longest, and then what fills the room that they leave.
    """
    lengths = batches.lengths_in(tokens, range(tokens.examples))
    if layout.row_tokens is None:
        count = max(1, layout.rows_at_once // tokens.per_example)
        longest: Integers = np.argsort(-lengths.max(axis=1), kind="stable")[:count]
        return longest
    sizes = lengths.sum(axis=1)
    order = sizes.argsort(kind="stable")
    ascending = sizes[order]
    chosen = [int(order[-1])]  # whether it fits or not: if not, it has a row of its own
    room = layout.rows_at_once * layout.row_tokens - int(ascending[-1])
    left = len(order) - 1
    while len(chosen) < effective_batch:
        left = min(left, int(np.searchsorted(ascending, room, side="right")))  # those before are short enough
        if not left:
            break
        left -= 1
        chosen.append(int(order[left]))
        room -= int(ascending[left])
    return np.array(chosen)
