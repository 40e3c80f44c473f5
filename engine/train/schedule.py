"""The learning rate as a pure function of the step: nothing to save, nothing to get wrong on resume."""

from __future__ import annotations

import math

from engine.profile import Training


def warmup_steps(steps: int, training: Training) -> int:
    """Optimizer steps in which the rate rises; none when `warmup_ratio` is 0."""
    return math.ceil(training.warmup_ratio * steps)


def rate(step: int, steps: int, training: Training) -> float:
    """The rate of optimizer step `step` (1 is the first) of `steps`.

    It rises linearly to `learning_rate` over the warm-up, then follows the schedule: half a cosine or a line towards 0, which would be
    reached one step after the last, or a constant.
    """
    warmup = warmup_steps(steps, training)
    if step <= warmup:
        return training.learning_rate * step / warmup
    done = (step - warmup - 1) / max(1, steps - warmup)
    match training.schedule:
        case "cosine":
            return training.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            return training.learning_rate * (1 - done)
        case "constant":
            return training.learning_rate
