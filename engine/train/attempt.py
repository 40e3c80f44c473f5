"""The work of one optimizer step, which may be done again: with less memory, or with smaller float16 gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.data.prepare import Tokens
from engine.train import backoff, generators, scaling, step
from engine.train.backoff import Backoff
from engine.train.batches import Layout
from engine.train.checkpoint import Progress
from engine.train.objective import Loss
from engine.train.parts import Learner, Parts
from engine.train.ranks import apart
from engine.train.sharded import whole
from engine.train.watch import Clock

TIMES_EVERY: Final = 10  # steps between exact times on a GPU


@dataclass(frozen=True)
class Done:
    """What a step came to: its mean loss, its gradient's norm before clipping, what the objective tells, its times, whether weights moved."""

    loss: float
    norm: float
    told: Mapping[str, float]
    clock: Clock
    updated: bool


def optimizer_step(
    parts: Parts, progress: Progress, trained: Sequence[nn.Parameter], examples: NDArray[np.int64], fitting: Backoff
) -> Done:
    """One update from these examples; none where loss or gradient is not finite.

    Raises:
        DoesNotFit: there is too little memory for any of them.
    """
    stood, tokens = progress.scale, parts.prepared.train
    while True:
        before = generators.torch_states()
        done = fitting.attempt(
            "training",
            lambda layout: once(parts, progress, trained, tokens, examples, layout, _clock(parts, progress)),
        )
        overflowed = math.isfinite(done.loss) and not done.updated and scaling.scale(parts.profile, progress) > 1
        if not overflowed:
            break
        progress.scale /= 2
        generators.restore_torch(before)
    if not done.updated:
        progress.scale = stood  # it was not the scale
    scaling.note(progress, updated=done.updated and progress.scale == stood)
    return done


def _clock(parts: Parts, progress: Progress) -> Clock:
    return Clock(parts.loaded.device, exact=progress.step % TIMES_EVERY == 0, memory=parts.memory)


def once(
    learner: Learner,
    progress: Progress,
    trained: Sequence[nn.Parameter],
    tokens: Tokens,
    examples: NDArray[np.int64],
    layout: Layout,
    clock: Clock,
) -> Done:
    """Forward, backward and update over the examples; out of memory in here leaves the weights as they were.

    `clock` is told when each part of it is over: data, forward and backward of every micro-batch, then update.
    """
    device = learner.loaded.device
    count = max(1, learner.objective.count(tokens, examples))
    scale = scaling.scale(learner.profile, progress)
    losses = []
    for piece in learner.ranks.pieces(tokens, examples, layout, equally=learner.cut):
        on_device = piece.batch.to(device)
        clock.computed += on_device.ids.numel()
        clock.lap("data")
        # Gradients become their mean over the ranks, so each counts for as many as there are; a stand-in counts for nothing.
        divisor = count / (scale * learner.ranks.world) if piece.counts else math.inf
        with apart(learner.scorer, last=piece.last):
            found = step.forward_backward(
                learner.objective, learner.scorer, on_device, divisor, after_forward=lambda: clock.lap("forward")
            )
        losses.append(found if piece.counts else _nothing(found))
        clock.lap("backward")
    scaling.unscale(trained, scale)
    norm = float(whole(step.clip(trained, learner.profile.training.max_grad_norm)))
    own = {"loss": float(torch.stack([found.total for found in losses]).sum()), **_summed(losses)}
    told = learner.ranks.summed(own)
    loss = told.pop("loss") / (scale * learner.ranks.world)
    updated = math.isfinite(loss) and math.isfinite(norm)
    if updated:
        backoff.update(learner.optimizer)
    else:
        learner.optimizer.zero_grad(set_to_none=True)
    clock.lap("update")
    return Done(loss, norm, {name: total / count for name, total in told.items()}, clock, updated)


def _nothing(stand_in: Loss) -> Loss:
    """What a stand-in adds: the same names, and zeros."""
    zeros = {name: torch.zeros_like(total) for name, total in stand_in.told.items()}
    return Loss(torch.zeros_like(stand_in.total), zeros)


def _summed(losses: Sequence[Loss]) -> dict[str, float]:
    """What the micro-batches tell besides the loss, added up by name."""
    return {name: sum(float(found.told[name]) for found in losses) for name in losses[0].told}
