"""How fast a run goes, and between which times it will end if it goes on so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.ledger.metrics import Curve
from engine.ledger.runs import Run

WINDOW: Final = 100  # steps
PAUSE: Final = 10.0  # times the median: an interval this long was a pause, not a step


@dataclass(frozen=True)
class Pace:
    """`step` is the seconds of a usual step; `earliest` and `latest` are times since the epoch that hold its end in about 95 %."""

    step: float
    earliest: float
    latest: float


def pace(curve: Curve, run: Run) -> Pace | None:
    """From the times of the newest steps; None while there are too few, or when it is not known how many there will be.

    The interval is around the job's own expectation (it knows of validations and saving): twice the standard error of the remaining
    steps' sum, of which each step's scatter and the mean's own uncertainty are part.
    """
    left = (run.steps or 0) - run.step
    gaps = np.diff(curve.times[-WINDOW - 1 :])
    gaps = gaps[gaps > 0]
    if len(gaps) < 4 or run.steps is None or left <= 0:
        return None
    gaps = gaps[gaps <= PAUSE * float(np.median(gaps))]
    mean, scatter = float(gaps.mean()), float(gaps.std())
    centre = run.ends if run.ends is not None else float(curve.times[-1]) + left * mean
    off = 2 * scatter * math.sqrt(left + left * left / len(gaps))
    return Pace(mean, centre - off, centre + off)
