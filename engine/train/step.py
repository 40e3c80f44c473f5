"""The three verbs of an optimizer step, apart and without a branch that looks at values, so that they also run on fake tensors.

The loss is normalised over all supervised tokens of the effective batch, not per micro-batch: accumulating N micro-batches then equals
one batch N times as large, whatever the rows' lengths (https://huggingface.co/blog/gradient_accumulation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.train.batches import IGNORED, MicroBatch


def loss_sum(model: nn.Module, batch: MicroBatch, autocast: torch.dtype | None) -> Tensor:
    """Summed cross-entropy over the supervised tokens of a micro-batch, in float32; a scalar.

    `autocast` is the compute type where weights are kept in float32, None where they are computed with as they are.
    """
    with torch.autocast(batch.ids.device.type, dtype=autocast, enabled=autocast is not None):
        logits: Tensor = model(
            input_ids=batch.ids, attention_mask=batch.mask, use_cache=False, logits_to_keep=batch.columns
        ).logits
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def forward_backward(
    model: nn.Module,
    batch: MicroBatch,
    supervised: int,
    autocast: torch.dtype | None,
    *,
    after_forward: Callable[[], None] | None = None,
) -> Tensor:
    """Add this micro-batch's gradients to what stands in `.grad`; returns its share of the effective batch's mean loss, detached.

    `supervised` counts the tokens of the whole effective batch. `after_forward` is called between the two, to take the time.
    """
    share = loss_sum(model, batch, autocast) / supervised
    if after_forward:
        after_forward()
    share.backward()  # type: ignore[no-untyped-call]
    return share.detach()


def clip(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale gradients to at most `max_norm`; returns their norm before that, a scalar that is not finite if any gradient is not."""
    return nn.utils.clip_grad_norm_(parameters, max_norm)


def update(optimizer: torch.optim.Optimizer) -> None:
    """Move the weights and drop the gradients."""
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
