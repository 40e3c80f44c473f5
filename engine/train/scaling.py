"""float16 gradients: scaled up so that small ones are not rounded to nothing, and down again before they are looked at.

As torch.amp.GradScaler does (https://docs.pytorch.org/docs/stable/amp.html), but a step whose gradients overflow is done again with half
the scale instead of being left out: no example is lost. The scale is part of `Progress`, so a resumed run has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from torch import nn

from engine.profile import Profile
from engine.train.checkpoint import Progress

GROW_AFTER: Final = 2000  # steps without an overflow, GradScaler's own


def scale(profile: Profile, progress: Progress) -> float:
    """What the loss is multiplied by before the backward pass; 1 for types whose range is float32's."""
    return progress.scale if profile.model.dtype == "float16" else 1.0


def unscale(weights: Iterable[nn.Parameter], by: float) -> None:
    """Divide the gradients by the scale. It is a power of two, so that only what the type cannot hold is rounded."""
    if by != 1.0:
        for weight in weights:
            if weight.grad is not None:
                weight.grad.mul_(1.0 / by)


def note(progress: Progress, *, updated: bool) -> None:
    """After a step: a larger scale now and then, for it may have become too small."""
    progress.scaled = progress.scaled + 1 if updated else 0
    if progress.scaled == GROW_AFTER:
        progress.scale, progress.scaled = 2 * progress.scale, 0
