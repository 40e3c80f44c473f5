"""From the ledger, the driver and the disk to what Monitor shows of one run: one frozen snapshot a read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.ledger import checkpoints, events, jobs, metrics, orders, runs, summaries
from engine.ledger.checkpoints import Checkpoint
from engine.ledger.events import Event
from engine.ledger.jobs import Job
from engine.ledger.orders import Order
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from screens.monitor.pace import Pace, pace
from screens.session import Room, Session
from screens.widgets.curves import Curves
from screens.widgets.series import Series

KNOWN: Final = (
    ("loss", (("train/loss", "train"), ("validation/loss", "val"))),
    ("margin", (("train/reward_margin", "train"), ("validation/reward_margin", "val"))),
    ("grad norm", (("train/grad_norm", "norm"),)),
    ("accuracy", (("train/accuracy", "train"), ("validation/accuracy", "val"))),
    (
        "rewards",
        (("train/chosen_reward", "chosen"), ("train/rejected_reward", "rejected")),
    ),
    (
        "log-probability",
        (("train/chosen_logp", "chosen"), ("train/rejected_logp", "rejected")),
    ),
    ("rate", (("train/rate", "rate"),)),
    ("tokens/s", (("train/tokens_per_second", "tokens/s"),)),
    (
        "memory MiB",
        (("memory/process_mib", "process"), ("memory/reserved_mib", "reserved"), ("memory/allocated_mib", "allocated")),
    ),
)
"""The charts that `[` and `]` go through, with the metrics in each; what else a run has comes after them, one by one. The second stands
beside the first: what preferences have learned where they are, else the gradient norm.
"""

BEFORE: Final = frozenset({State.QUEUED, State.STARTING})  # what stands then is that of the job before
NOT_DRAWN: Final = ("time/", "train/tokens", "train/epoch")
PARTS: Final = ("data", "forward", "backward", "update", "save")


@dataclass(frozen=True, eq=False)
class Chart:
    """A chart's title and its curves."""

    title: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Made:
    """What a job made of the profile once the model was there: kinds of module of which something is trained, how many parameters that
    is of how many, and how rows are put together. Empty until then.
    """

    kinds: tuple[str, ...] = ()
    trained: int = 0
    parameters: int = 0
    rows: str = ""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One run as it is. `times` are shares of one; `since_best` counts validations since the best one."""

    run: Run
    job: Job | None
    settings: Mapping[str, object]
    made: Made
    charts: tuple[Chart, ...]
    last: Mapping[str, float]
    best: float | None
    best_step: int | None
    since_best: int
    pace: Pace | None
    times: Mapping[str, float]
    checkpoints: tuple[Checkpoint, ...]
    events: tuple[Event, ...]
    waiting: tuple[Order, ...]
    room: Room


class Reading:
    """Reads snapshots; keeps curves and events between them. For one thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ledger = session.ledger
        self._curves = Curves()
        self._events: dict[int, tuple[Event, ...]] = {}
        self._made: dict[int, Made] = {}

    def read(self, uid: str | None) -> Snapshot | None:
        """The run with this uid; without one, or when it is gone, the newest that is alive, else the newest."""
        run = self._run(uid)
        if run is None:
            return None
        names = metrics.keys(self._ledger, run.id)
        summary = summaries.of_run(self._ledger, run)
        loss = summary.get("validation/loss")
        validation = self._curves.get(self._ledger, run.id, "validation/loss")
        best_step = loss.best_step if loss else None
        saved = tuple(checkpoints.of_run(self._ledger, run.id))
        job = jobs.newest_training(self._ledger, run.id)
        return Snapshot(
            run,
            job,
            runs.settings(self._ledger, run),
            self._what_was_made(run, job),
            self._charts(run, names),
            {name: value.last for name, value in summary.items() if value.last is not None},
            loss.best if loss else None,
            best_step,
            int(np.count_nonzero(validation.steps > best_step)) if best_step is not None else 0,
            pace(self._curves.get(self._ledger, run.id, "train/loss"), run) if run.state is State.RUNNING else None,
            self._times(run, names),
            saved,
            self._newest_events(run),
            tuple(orders.waiting(self._ledger, run.id)),
            self._session.room(run.folder),
        )

    def _what_was_made(self, run: Run, job: Job | None) -> Made:
        """Kept for a job that has begun to train, since it does not change any more."""
        if job is None or job.id in self._made:
            return self._made[job.id] if job else Made()
        found = runs.document(self._ledger, run).environment
        inventory = found.get("inventory")
        rows = inventory.get("rows", []) if isinstance(inventory, Mapping) else []
        trained = [row for row in rows if row["trained"]]
        made = Made(
            tuple(dict.fromkeys(str(row["kind"]) for row in trained)),
            sum(row["parameters"] for row in trained),
            sum(row["parameters"] for row in rows),
            str(found.get("rows", "")),
        )
        if run.step and run.state not in BEFORE:
            self._made[job.id] = made
        return made

    def _run(self, uid: str | None) -> Run | None:
        """Alone where it is known: to read all runs each time costs ten times the rest, while keys wait."""
        found = runs.by_uid(self._ledger, uid) if uid is not None else None
        if found is not None and found.deleted is None:
            return found
        listed = runs.listed(self._ledger)
        return next((run for run in listed if run.state in LIVE), None) or next(iter(listed), None)

    def _charts(self, run: Run, names: list[str]) -> tuple[Chart, ...]:
        known = {name for _, members in KNOWN for name, _ in members}
        others = [
            (name, ((name, name.rpartition("/")[2]),))
            for name in names
            if name not in known and not name.startswith(NOT_DRAWN)
        ]
        return tuple(
            Chart(
                title,
                tuple(
                    Series(label, curve.steps, curve.values, 2 * colour)
                    for colour, (name, label) in enumerate(members)
                    if name in names and len((curve := self._curves.get(self._ledger, run.id, name)).steps)
                ),
            )
            for title, members in (*KNOWN, *others)
            if title in ("loss", "grad norm") or any(name in names for name, _ in members)
        )

    def _times(self, run: Run, names: list[str]) -> dict[str, float]:
        """What share of the time went where, over the last hundred steps."""
        spent = {}
        for part in PARTS:
            if f"time/{part}" in names:
                values = self._curves.get(self._ledger, run.id, f"time/{part}").values[-100:]
                spent[part] = float(np.nansum(values))
        total = sum(spent.values())
        return {part: seconds / total for part, seconds in spent.items()} if total > 0 else {}

    def _newest_events(self, run: Run) -> tuple[Event, ...]:
        known = self._events.get(run.id, ())
        added = events.of_run(self._ledger, run.id, after=known[0].id if known else 0)
        self._events = {run.id: (*reversed(added), *known)[:1000]}
        return self._events[run.id]
