"""From the ledger to a run's page: everything that is known of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from engine.ledger import (
    Ledger,
    artifacts,
    checkpoints,
    evaluations,
    events,
    family,
    jobs,
    labels,
    orders,
    queue,
    runs,
    summaries,
)
from engine.ledger.artifacts import Artifact
from engine.ledger.checkpoints import Checkpoint
from engine.ledger.evaluations import Evaluation
from engine.ledger.events import Event
from engine.ledger.jobs import Job
from engine.ledger.orders import Order
from engine.ledger.runs import Document, Run
from engine.ledger.states import State
from engine.ledger.summaries import Summary

EVENTS: Final = 1000  # the newest


@dataclass(frozen=True, eq=False)
class Whole:
    """One run. `seen` are its jobs' states as this machine sees them; `there` are the paths, relative or not, of what its rows name and
    the disk has.
    """

    run: Run
    document: Document
    settings: Mapping[str, object]
    tags: tuple[str, ...]
    summary: Mapping[str, Summary]
    jobs: tuple[Job, ...]
    seen: tuple[State, ...]
    place: int | None
    orders: tuple[Order, ...]
    events: tuple[Event, ...]
    checkpoints: tuple[Checkpoint, ...]
    evaluations: tuple[Evaluation, ...]
    artifacts: tuple[Artifact, ...]
    relatives: tuple[family.Relative, ...]
    there: frozenset[str]
    folder_there: bool


def read(ledger: Ledger, run: Run) -> Whole:
    """All of it; takes as long as its tables are, so in a thread."""
    worked, saved, left = (
        jobs.of_run(ledger, run.id),
        checkpoints.of_run(ledger, run.id),
        artifacts.of_run(ledger, run.id),
    )
    named = [*(str(each.path) for each in saved), *(each.path for each in left)]
    return Whole(
        run,
        runs.document(ledger, run),
        runs.settings(ledger, run),
        labels.tags(ledger, run),
        summaries.of_run(ledger, run),
        tuple(worked),
        tuple(jobs.seen_state(job) for job in worked),
        queue.places(ledger).get(run.id),
        tuple(orders.taken(ledger, run.id)),
        tuple(reversed(events.of_run(ledger, run.id, limit=EVENTS))),
        tuple(saved),
        tuple(evaluations.of_run(ledger, run.id)),
        tuple(left),
        tuple(family.of_run(ledger, run)),
        frozenset(name for name in named if (run.folder / name).exists()),
        run.folder.is_dir(),
    )
