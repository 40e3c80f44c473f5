"""From the ledger to an overlay: one metric of several runs, against steps, tokens, time at work or epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from engine.ledger import Ledger, jobs, runs, summaries
from engine.ledger.jobs import Job
from engine.ledger.metrics import Curve
from engine.ledger.runs import Run
from engine.ledger.states import LIVE
from engine.ledger.summaries import Summary
from screens.widgets.curves import Curves
from screens.widgets.plot import Floats
from screens.widgets.scales import EPOCH, STEP, TIME, TOKENS, Scale
from screens.widgets.series import Series

COUNTED: Final = {TOKENS.name: "train/tokens", EPOCH.name: "train/epoch"}
"""The metrics that say how many there were by a step."""

FIRST: Final = ("validation/loss", "train/loss")
ENOUGH: Final = 3  # points of the validation loss that make it the metric to begin with


@dataclass(frozen=True, eq=False)
class Line:
    """A run's curve; without `series`, `missing` says what the run does not have."""

    run: Run
    series: Series | None
    best: float | None
    best_step: int | None
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Overlaid:
    """The curves of one metric, a line a run, and the metrics there are."""

    metrics: tuple[str, ...] = ()
    metric: str = ""
    lines: tuple[Line, ...] = ()
    scale: Scale = STEP
    smoothed: bool = False


class Reading:
    """Keeps what was read; of runs that have ended nothing is read twice. For one thread."""

    def __init__(self, ledger: Ledger, chosen: Sequence[Run]) -> None:
        self._ledger = ledger
        self._runs = list(chosen)
        self._curves = Curves(kept=max(32, 4 * len(self._runs)))
        self._names: dict[int, tuple[str, ...]] = {}
        self._best: dict[int, dict[str, Summary]] = {}
        self._made: dict[tuple[int, str, str], tuple[Curve, Curve | None, Series | None]] = {}

    def read(self, metric: str | None, scale: Scale, *, smoothed: bool = False) -> Overlaid:
        """This metric, or the first that there is. What looks at all points is done here, where no key waits for it."""
        self._look_again()
        metric = metric or self._first()
        lines = tuple(self._line(run, colour, metric, scale) for colour, run in enumerate(self._runs))
        for line in lines:
            if line.series:
                line.series.prepare(smoothed=smoothed)
        return Overlaid(self._metrics(), metric, lines, scale, smoothed)

    def _look_again(self) -> None:
        """At runs that are alive, and once at each."""
        for place, run in enumerate(self._runs):
            if run.state in LIVE or run.id not in self._names:
                self._runs[place] = now = runs.by_id(self._ledger, run.id) or run
                self._best[run.id] = summaries.of_run(self._ledger, now)
                self._names[run.id] = tuple(self._best[run.id])

    def _metrics(self) -> tuple[str, ...]:
        """Losses first; what an axis counts is no curve."""
        found = {name for names in self._names.values() for name in names} - set(COUNTED.values())
        return (*(name for name in FIRST if name in found), *sorted(found - set(FIRST)))

    def _first(self) -> str:
        known = self._metrics()
        many = max((len(self._curves.get(self._ledger, run.id, FIRST[0]).steps) for run in self._runs), default=0)
        return FIRST[1] if many < ENOUGH and FIRST[1] in known else next(iter(known), FIRST[0])

    def _line(self, run: Run, colour: int, metric: str, scale: Scale) -> Line:
        best = self._best[run.id].get(metric)
        if best is None:
            return Line(run, None, None, None, "no such metric")
        curve = self._curve(run, metric)
        counted = self._curve(run, COUNTED[scale.name]) if scale.name in COUNTED else None
        key = (run.id, metric, scale.name)
        kept = self._made.get(key)
        if kept is None or kept[0] is not curve or kept[1] is not counted:
            across = self._across(run, curve, counted, scale)
            series = Series(run.name, across, curve.values, colour) if across is not None else None
            kept = self._made[key] = (curve, counted, series)
        series = kept[2]
        return Line(run, series, best.best, best.best_step, "" if series else f"{scale.name} not counted")

    def _curve(self, run: Run, metric: str) -> Curve:
        return self._curves.get(self._ledger, run.id, metric)

    def _across(self, run: Run, curve: Curve, counted: Curve | None, scale: Scale) -> Floats | None:
        """Where the curve's points lie on the scale; None where the run does not say."""
        if scale is TIME:
            worked = [job for job in jobs.of_run(self._ledger, run.id) if job.kind == "train" and job.started]
            return time_at_work(curve.times, worked)
        if counted is None:
            return curve.steps.astype(np.float64)
        known = np.isfinite(counted.values)
        if not known.any():
            return None
        there = np.interp(curve.steps, counted.steps[known], counted.values[known], left=0.0)
        return np.maximum.accumulate(there)


def time_at_work(times: Floats, worked: Sequence[Job]) -> Floats:
    """Seconds since a run began, without those between two of its jobs; never falling, whatever its clock did.

    `times` in seconds since the epoch, `worked` its training jobs that have started, oldest first.
    """
    if not len(times):
        return times
    began = min([float(times[0]), *(job.started for job in worked[:1] if job.started)])
    elapsed = times - began
    for before, after in pairwise(worked):
        ended, started = before.ended or before.heartbeat, after.started
        if ended and started and started > ended:
            elapsed -= np.where(times >= started, started - ended, 0.0)
    return np.maximum.accumulate(np.maximum(elapsed, 0.0))
