"""The queue: jobs that wait for their turn, in the order in which they are to begin. It lives in the ledger, so that anybody may change it.

There is no daemon: each waiting job is a process that looks whether somebody before it wants the same place (`ahead`), and whether the
place is free (`engine.turns`). A waiter whose process has gone is no longer in the queue and holds up nobody.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine import machine
from engine.errors import Problem
from engine.ledger import jobs
from engine.ledger.jobs import Job
from engine.ledger.states import State
from engine.ledger.store import Ledger

End = Literal["first", "last"]
_COLUMNS: Final = ", ".join(f"j.{name}" for name in jobs.COLUMNS.split(", "))


@dataclass(frozen=True)
class Waiting:
    """A job in the queue, the run that it is for, and its place, counted from 1."""

    place: int
    job: Job
    uid: str
    name: str


def waiting(ledger: Ledger) -> list[Waiting]:
    """The queue, the next one first."""
    rows = ledger.rows(
        f"SELECT r.uid, r.name, {_COLUMNS} FROM job j JOIN run r ON r.id = j.run"
        " WHERE j.state = 'queued' AND j.turn IS NOT NULL ORDER BY j.turn, j.id"
    )
    found = [(str(row[0]), str(row[1]), jobs.from_row(row[2:])) for row in rows]
    there = [(uid, name, job) for uid, name, job in found if jobs.seen_state(job) is State.QUEUED]
    return [Waiting(place, job, uid, name) for place, (uid, name, job) in enumerate(there, 1)]


def places(ledger: Ledger) -> dict[int, int]:
    """The place of each waiting run, by its id."""
    return {each.job.run: each.place for each in waiting(ledger) if each.job.run is not None}


def ahead(ledger: Ledger, job: Job, places: Collection[str]) -> str:
    """The name of the first run of this machine's queue that stands before `job` and would take one of `places`; empty if none does."""
    for other in waiting(ledger):
        if other.job.id == job.id:
            return ""
        if other.job.host == machine.here().host and not set(places).isdisjoint(json.loads(other.job.places)):
            return other.name
    return ""


def set_places(ledger: Ledger, job: Job, places: Sequence[str]) -> None:
    """What a waiting job would take, or what it has taken: UUIDs of GPUs, or `cpu`."""
    with ledger.transaction(durable=True) as connection:
        connection.execute("UPDATE job SET places = ? WHERE id = ?", (json.dumps(list(places)), job.id))


def move(ledger: Ledger, run: int, where: End | int) -> list[Waiting]:
    """Put a run's waiting job first or last, or before the waiting job of the run with the id `where`; returns the queue as it is then.

    Raises:
        Problem: one of them is not, or no longer, in the queue.
    """
    with ledger.transaction(durable=True) as connection:
        queue = waiting(ledger)
        mine = _of(queue, run)
        others = [each for each in queue if each is not mine]
        if where == run:
            return queue
        ends = {"first": 0, "last": len(others)}
        at = ends[where] if isinstance(where, str) else others.index(_of(others, where))
        order = [*others[:at], mine, *others[at:]]
        # The old numbers in the new order: those who are not among them, and come later, keep their place.
        turns = sorted(each.job.turn or 0 for each in queue)
        connection.executemany(
            "UPDATE job SET turn = ? WHERE id = ?",
            [(turn, each.job.id) for turn, each in zip(turns, order, strict=True)],
        )
    return waiting(ledger)


def _of(queue: Sequence[Waiting], run: int) -> Waiting:
    found = next((each for each in queue if each.job.run == run), None)
    if found is None:
        raise Problem(
            "The run is not waiting in the queue",
            "Only a run that was started with --queue and has not begun is.",
            "See who waits: workbench runs queue",
            code="queue",
        )
    return found
