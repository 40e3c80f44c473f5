"""How many optimizer steps a run has: known before a model is loaded."""

from __future__ import annotations

import math

from engine.profile import Training


def steps_per_epoch(examples: int, training: Training) -> int:
    """Optimizer steps of one pass; the last, partial batch of an epoch is a step of its own."""
    return math.ceil(examples / training.effective_batch)


def total_steps(examples: int, training: Training) -> int:
    """Optimizer steps of the whole run: `max_steps`, or the epochs with a fraction counted in examples."""
    if training.max_steps is not None:
        return training.max_steps
    whole = int(training.epochs)
    rest = math.ceil(round((training.epochs - whole) * examples, 6))
    return whole * steps_per_epoch(examples, training) + steps_per_epoch(rest, training)
