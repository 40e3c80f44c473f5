"""A job's turn: its place in the ledger's queue together with the machine's locks, and in words what it waits for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine import turns
from engine.gpu import gpus
from engine.ledger import Ledger, jobs, orders, queue
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.profile import Hardware
from engine.turns import Places


@contextmanager
def turn_of(ledger: Ledger, job: Job, run: Run, hardware: Hardware) -> Iterator[Places]:
    """Wait for the job's turn where it is queued, and hold what it takes for as long as the context lasts; the ledger says what that is.

    Raises:
        KeyboardInterrupt: it was told to stop while it waited.
        Problem: a GPU that is named is not there.
    """
    argument = json.loads(job.argument)
    queued = bool(argument.get("queue"))
    options = _options(hardware, argument.get("any_of", ()))
    queue.set_places(ledger, job, sorted({place for option in options for place in option}))
    with turns.turn(
        options,
        queue=queued,
        wait=lambda what: _wait(ledger, job, what),
        ahead=lambda places: queue.ahead(ledger, job, places),
        who=lambda pid: _called(ledger, pid),
        needs_mib=run.predicted_mib,
    ) as taken:
        queue.set_places(ledger, job, taken)
        yield taken


def _options(hardware: Hardware, any_of: Sequence[str]) -> list[Places]:
    """What would do: one of several GPUs where the profile left the choice, else what it names."""
    there = {gpu.uuid for gpu in gpus()} if any_of else set()
    return [(uuid,) for uuid in any_of if uuid in there] or [turns.places(hardware)]


def _wait(ledger: Ledger, job: Job, what: str) -> None:
    """One second of waiting; a stop order ends it."""
    jobs.beat(ledger, job, doing=what)
    if job.kind == "train" and job.run is not None:
        for order in orders.waiting(ledger, job.run):
            if order.verb == "stop":
                orders.acknowledge(ledger, order, step=None, answer="taken while it was queued")
                raise KeyboardInterrupt("Stopped by order before it began.")
    time.sleep(1.0)


def _called(ledger: Ledger, pid: int) -> str:
    """The name of the run that a process works on, where it is one of this ledger."""
    here = next((job for job in jobs.live(ledger) if job.pid == pid and jobs.seen_state(job) is job.state), None)
    found = ledger.rows("SELECT name FROM run WHERE id = ?", (here.run,)) if here else []
    return str(found[0][0]) if found else turns.process(pid)
