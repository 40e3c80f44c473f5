"""The three verbs of an optimizer step, apart and without a branch that looks at values, so that they also run on fake tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from engine.train.batches import MicroBatch
from engine.train.objective import Loss, Objective


def forward_backward(
    objective: Objective,
    scorer: nn.Module,
    batch: MicroBatch,
    count: float,
    *,
    after_forward: Callable[[], None] | None = None,
) -> Loss:
    """Add this micro-batch's gradients to what stands in `.grad`; returns its share of the effective batch's mean loss, detached.

    `count` is the objective's of the whole effective batch. `after_forward` is called between the two, to take the time.
    """
    loss = objective.loss(scorer, batch)
    share = loss.total / count
    if after_forward:
        after_forward()
    share.backward()  # type: ignore[no-untyped-call]
    return replace(loss, total=share.detach())


def clip(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale gradients to at most `max_norm`; returns their norm before that, a scalar that is not finite if any gradient is not."""
    return nn.utils.clip_grad_norm_(parameters, max_norm)


def update(optimizer: torch.optim.Optimizer) -> None:
    """Move the weights and drop the gradients."""
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
