"""Orders from people to a run's job.

They are rows, polled at each optimizer step and acknowledged with the step at which they took effect.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from engine.errors import Problem
from engine.ledger import jobs, runs
from engine.ledger.runs import Run
from engine.ledger.store import Ledger

Verb = Literal["pause", "continue", "checkpoint", "stop", "evaluate", "rate"]


@dataclass(frozen=True)
class Order:
    """`step` is None until acknowledged; `value` the factor of a `rate` order, relative to the schedule, not to earlier ones."""

    id: int
    verb: Verb
    value: float | None
    created: float
    step: int | None
    answer: str


def give(ledger: Ledger, run: int, verb: Verb, value: float | None = None) -> int:
    """Give an order to whatever job trains the run; returns its id.

    Raises:
        Problem: it would not be seen (`refuse_if_foreign`), the run was deleted, or the ledger cannot be written.
    """
    found = runs.by_id(ledger, run)
    if found is None:
        raise Problem(f"There is nothing to {verb}", "The run was deleted.", code="run")
    refuse_if_foreign(ledger, found, verb)
    with ledger.transaction(durable=True) as connection:
        cursor = connection.execute(
            "INSERT INTO orders (run, verb, value, created) VALUES (?, ?, ?, ?)", (run, verb, value, time.time())
        )
        return int(cursor.lastrowid or 0)


def refuse_if_foreign(ledger: Ledger, run: Run, verb: str) -> None:
    """Nothing, unless another program trains the run, or another machine with a ledger of its own: they would never see the order.

    Raises:
        Problem: so it is (code `foreign` or `elsewhere`); it says which process or machine that is, where it is known.
    """
    job = jobs.newest_training(ledger, run.id)
    if job is not None and not run.source and jobs.is_out_of_reach(job):
        raise Problem(
            f"{run.name} takes no orders from here: it is {run.state} on {job.host}",
            f"This ledger has it as of {time.strftime('%d %b %H:%M', time.localtime(job.heartbeat or job.created))}.",
            f"Give the order on {job.host}.",
            code="elsewhere",
        )
    if not run.source:
        return
    who = f"process {job.pid} on {job.host}" if job is not None and job.pid else "the program that trains it"
    raise Problem(
        f"{run.name} takes no orders: Workbench did not start it",
        f"It is {run.source}: another program trains it and knows nothing of Workbench.",
        f"To {verb} it, turn to {who}.",
        code="foreign",
    )


def _select(ledger: Ledger, where: str, values: tuple[int, ...]) -> list[Order]:
    rows = ledger.rows(f"SELECT id, verb, value, created, step, answer FROM orders WHERE {where} ORDER BY id", values)
    return [Order(*row) for row in rows]


def waiting(ledger: Ledger, run: int) -> list[Order]:
    """Orders not yet acknowledged, oldest first."""
    return _select(ledger, "run = ? AND answered IS NULL", (run,))


def taken(ledger: Ledger, run: int) -> list[Order]:
    """Orders that took effect, oldest first: part of the run, replayed at their steps when it resumes."""
    return _select(ledger, "run = ? AND answered IS NOT NULL AND step IS NOT NULL", (run,))


def acknowledge(ledger: Ledger, order: Order, *, step: int | None, answer: str) -> None:
    """The job took the order at `step`; None when it was dropped (the job it was meant for had ended)."""
    with ledger.transaction(durable=True) as connection:
        connection.execute(
            "UPDATE orders SET step = ?, answered = ?, answer = ? WHERE id = ?", (step, time.time(), answer, order.id)
        )
