"""From the ledger to what the Runs screen shows: one frozen snapshot a read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from engine.ledger import Ledger, events, jobs, queue, runs
from engine.ledger.events import Event
from engine.ledger.jobs import Job
from engine.ledger.runs import Run, Summary
from engine.ledger.states import LIVE, State
from screens.runs.filtering import Filter
from screens.widgets.curves import Curves
from screens.widgets.plot import Floats

LOSS: Final = "validation/loss"
SAME: Final = (
    "data.",
    "split.",
    "template.",
    "model.base",
    *(f"training.{name}" for name in ("loss_on", "objective", "beta", "length_normalised")),
)
"""Beginnings of the settings that must be equal for two losses to be comparable."""

Settings = Mapping[str, object]
NOTHING: Final = Summary(None, 0, None, None)


@dataclass(frozen=True)
class Row:
    """A run and its figures. `leads` says that its best validation loss is the lowest of the runs that it is comparable with; `place`
    is its place in the queue, None where it does not wait.
    """

    run: Run
    base: str
    method: str
    rank: int | None
    rate: float | None
    val: float | None
    best: float | None
    leads: bool
    age: float
    place: int | None = None


@dataclass(frozen=True, eq=False)
class Detail:
    """What is told about the run under the cursor. `curve` is its loss, of validation where there is enough of it; `beside` is its newest
    job, if that evaluates or exports.
    """

    row: Row
    settings: Settings
    curve_name: str
    curve: Floats
    other: Run | None
    differs: tuple[tuple[str, object, object], ...]
    events: tuple[Event, ...]
    doing: str
    message: str
    beside: Job | None
    beside_state: State | None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The rows that pass the filter, newest first, all states counted, and the selected run."""

    rows: tuple[Row, ...] = ()
    total: int = 0
    states: Mapping[State, int] = field(default_factory=dict)
    detail: Detail | None = None


class Reading:
    """Reads snapshots; keeps what never changes (a run's settings) and curves between them. For one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._settings: dict[int, Settings] = {}
        self._comparable: dict[int, tuple[tuple[str, str], ...]] = {}
        self._curves = Curves()

    def read(self, now: float, only: Filter, selected: str | None) -> Snapshot:
        """All of it. Without a `selected` uid, or when that is gone, the first row is told about."""
        listed = runs.listed(self._ledger)
        summaries = runs.summaries(self._ledger, (LOSS,))
        for run in listed:
            if run.id not in self._settings:
                known = self._settings[run.id] = runs.settings(self._ledger, run)
                self._comparable[run.id] = tuple(
                    (key, str(value)) for key, value in known.items() if key.startswith(SAME)
                )
        leaders = self._leaders(listed, summaries)
        places = queue.places(self._ledger)
        states: dict[State, int] = {}
        for run in listed:
            states[run.state] = states.get(run.state, 0) + 1
        rows = tuple(
            row
            for run in listed
            if only.holds(self._facts(run))
            and (row := self._row(run, summaries.get(run.id, {}), run.id in leaders, now, places.get(run.id)))
        )
        chosen = next((row for row in rows if row.run.uid == selected), rows[0] if rows else None)
        detail = self._detail(chosen, listed, leaders) if chosen else None
        return Snapshot(rows, len(listed), states, detail)

    def _facts(self, run: Run) -> dict[str, str]:
        settings = self._settings[run.id]
        return {
            "name": run.name,
            "state": run.state.value,
            "model": str(settings.get("model.base", "")),
            "method": method(settings),
            "note": run.note,
        }

    def _row(self, run: Run, summary: Mapping[str, Summary], leads: bool, now: float, place: int | None) -> Row:
        settings = self._settings[run.id]
        loss = summary.get(LOSS, NOTHING)
        rank, rate = settings.get("method.rank"), settings.get("training.learning_rate")
        return Row(
            run,
            short_name(str(settings.get("model.base", ""))),
            method(settings),
            rank if isinstance(rank, int) and settings.get("method.name") == "lora" else None,
            rate if isinstance(rate, float) else None,
            loss.last,
            loss.best,
            leads,
            now - run.created,
            place,
        )

    def _leaders(self, listed: list[Run], summaries: Mapping[int, Mapping[str, Summary]]) -> frozenset[int]:
        """Of each group of comparable runs with at least two measured, the id of the one with the lowest validation loss."""
        groups: dict[tuple[tuple[str, str], ...], list[tuple[float, int]]] = {}
        for run in listed:
            best = summaries.get(run.id, {}).get(LOSS, NOTHING).best
            if best is not None:
                groups.setdefault(self._comparable[run.id], []).append((best, run.id))
        return frozenset(min(group)[1] for group in groups.values() if len(group) > 1)

    def _detail(self, row: Row, listed: list[Run], leaders: frozenset[int]) -> Detail:
        run = row.run
        other = self._other(run, listed, leaders)
        name, curve = LOSS, self._curves.get(self._ledger, run.id, LOSS).values
        if np.count_nonzero(np.isfinite(curve)) < 3:
            train = self._curves.get(self._ledger, run.id, "train/loss").values
            if len(train) > len(curve):
                name, curve = "train/loss", train
        all_jobs = jobs.of_run(self._ledger, run.id)
        newest = next((job for job in reversed(all_jobs) if job.kind == "train"), None)
        beside = all_jobs[-1] if all_jobs and all_jobs[-1].kind != "train" else None
        return Detail(
            row,
            self._settings[run.id],
            name,
            curve,
            other,
            self.differences(run, other) if other else (),
            tuple(reversed(events.of_run(self._ledger, run.id, limit=8))),
            newest.doing if newest and run.state in LIVE and (not run.step or run.state is State.QUEUED) else "",
            newest.message if newest and run.state is State.FAILED else "",
            beside,
            jobs.seen_state(beside) if beside else None,
        )

    def _other(self, run: Run, listed: list[Run], leaders: frozenset[int]) -> Run | None:
        """What the run is told apart from: the best comparable one, else the newest other on the same base."""
        mine = self._comparable[run.id]
        others = [other for other in listed if other.id != run.id]
        best = [other for other in others if other.id in leaders and self._comparable[other.id] == mine]
        base = self._settings[run.id].get("model.base")
        near = [other for other in others if self._settings[other.id].get("model.base") == base]
        return next(iter(best or [other for other in near if self._comparable[other.id] == mine] or near), None)

    def differences(self, run: Run, other: Run) -> tuple[tuple[str, object, object], ...]:
        """Settings in which two runs differ: key, value here, value there. What was done comes before what it was done to."""
        differing = runs.different((self._settings[run.id], self._settings[other.id]))
        keys = sorted(differing, key=lambda key: key.startswith((*SAME, "evaluation.")))
        return tuple((key, differing[key][0], differing[key][1]) for key in keys)


def method(settings: Settings) -> str:
    """How it is called: `qlora` is lora on a 4-bit base."""
    name = str(settings.get("method.name", ""))
    if name == "lora" and settings.get("model.quantization", "none") != "none":
        return "qlora"
    if name == "lora" and settings.get("method.dora"):
        return "dora"
    return name


def short_name(base: str) -> str:
    """A model's name without its owner or folder."""
    return Path(base).name or base
