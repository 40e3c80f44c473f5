"""The run under the cursor: its loss, what sets it apart, what its jobs do, what happened last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from engine.ledger import Ledger, events, jobs, runs, table
from engine.ledger.events import Event
from engine.ledger.facts import LOSS
from engine.ledger.jobs import Job
from engine.ledger.states import LIVE, State
from engine.ledger.table import Row, Settings
from screens.runs.grouping import MANY, Group
from screens.runs.scene import UNKNOWN, Scene, best_loss
from screens.widgets import figures
from screens.widgets.curves import Curves
from screens.widgets.plot import Floats

EVENTS = 8


@dataclass(frozen=True, eq=False)
class Detail:
    """What is told about a run. `curve` is its loss, of validation where there is enough of it; `other` is the run that it is told apart
    from, its baseline where it has one; `beside` is its newest job, if that evaluates or exports.
    """

    row: Row
    predicted_mib: float | None
    measured_mib: float | None
    settings: Settings
    curve_name: str
    curve: Floats
    other: Row | None
    against_baseline: bool
    differs: tuple[tuple[str, object, object], ...]
    events: tuple[Event, ...]
    doing: str
    message: str
    beside: Job | None
    beside_state: State | None


@dataclass(frozen=True, eq=False)
class Together:
    """What is told about runs that are together: the best of them, and in which settings they differ, with the values of each."""

    group: Group
    best: Row | None
    varied: tuple[tuple[str, tuple[object, ...]], ...]


class Looking:
    """Reads details; keeps curves between them. For one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._curves = Curves()
        self._together: Together | None = None

    def at(self, row: Row, rows: Sequence[Row], scene: Scene) -> Detail:
        """All about one run; `rows` are those among which another is looked for that it can be told apart from."""
        settings = self._settings(row, scene)
        other = _other(row, rows, scene)
        name, curve = LOSS, self._curves.get(self._ledger, row.id, LOSS).values
        if np.count_nonzero(np.isfinite(curve)) < 3:
            train = self._curves.get(self._ledger, row.id, "train/loss").values
            if len(train) > len(curve):
                name, curve = "train/loss", train
        all_jobs = jobs.of_run(self._ledger, row.id)
        newest = next((job for job in reversed(all_jobs) if job.kind == "train"), None)
        beside = all_jobs[-1] if all_jobs and all_jobs[-1].kind != "train" else None
        run = runs.by_id(self._ledger, row.id)
        return Detail(
            row,
            run.predicted_mib if run else None,
            run.measured_mib if run else None,
            settings,
            name,
            curve,
            other,
            other is not None and other is scene.baseline(row),
            differences(settings, self._settings(other, scene)) if other else (),
            tuple(reversed(events.of_run(self._ledger, row.id, limit=EVENTS))),
            _doing(newest, row, scene.now) if newest else "",
            newest.message if newest and row.state is State.FAILED else "",
            beside,
            jobs.seen_state(beside) if beside else None,
        )

    def together(self, group: Group, scene: Scene) -> Together:
        """All about a group, found once; of thousands of runs some, evenly spread, tell in what they differ."""
        if self._together is not None and self._together.group is group:
            return self._together
        measured = [row for row in group.rows if best_loss(row) is not None]
        some = group.rows[:: 1 + len(group.rows) // MANY]
        known = [scene.settings[row.id] for row in some if row.id in scene.settings]
        varied = tuple((key, _different(each.get(key) for each in known)) for key in table.differing(known))
        self._together = Together(group, min(measured, key=lambda row: best_loss(row) or 0.0, default=None), varied)
        return self._together

    def _settings(self, row: Row, scene: Scene) -> Settings:
        """Those that are there, else read now: the first lines are told about before all settings have been read."""
        known = scene.settings.get(row.id)
        return table.settings(self._ledger, [row.id]).get(row.id, UNKNOWN) if known is None else known


def _doing(newest: Job, row: Row, now: float) -> str:
    """What the job is busy with before its first step; of one that works elsewhere, when this ledger was last told of it."""
    if jobs.is_out_of_reach(newest, now=now):
        return f"as of {figures.clock(newest.heartbeat or newest.created, now)}, on {newest.host}"
    return newest.doing if row.state in LIVE and (not row.step or row.state is State.QUEUED) else ""


def _other(row: Row, rows: Sequence[Row], scene: Scene) -> Row | None:
    """What the run is told apart from: its baseline, else the best of those it may be compared with, else the newest other on its base."""
    if (baseline := scene.baseline(row)) is not None:
        return baseline
    if row.comparable:
        alike = (other for other in rows if other.comparable == row.comparable and other.id != row.id)
        first = next(alike, None)
        if first is not None:
            return next((other for other in chain((first,), alike) if other.id in scene.leaders), first)
    base = scene.settings.get(row.id, UNKNOWN).get("model.base")
    on_base = (other for other in rows if scene.settings.get(other.id, UNKNOWN).get("model.base") == base)
    return next((other for other in on_base if other.id != row.id), None)


def _different(values: Iterable[object]) -> tuple[object, ...]:
    """Each value once, in the order in which they come."""
    return tuple({str(value): value for value in values}.values())


def differences(here: Settings, there: Settings) -> tuple[tuple[str, object, object], ...]:
    """Settings in which two runs differ, what tells most first: key, value here, value there."""
    return tuple((key, here.get(key), there.get(key)) for key in table.differing((here, there)))
