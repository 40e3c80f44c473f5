"""Jobs in the ledger: processes at work, and the truth about those that vanished."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from engine import machine
from engine.errors import Problem
from engine.ledger.states import LIVE, State
from engine.ledger.store import Ledger, Value

Kind = Literal["train", "evaluate", "export"]
FRESH: Final = 30.0  # seconds: a younger heartbeat is a living job's
DROPPED: Final = "the job that it was meant for had ended"  # the answer to such an order
STARTING_GRACE: Final = 30.0  # seconds from creating a job to its process having signed in


@dataclass(frozen=True)
class Job:
    """One row of `job`. Times are seconds since the epoch; `argument` and `places` are JSON (see `engine.ledger.schema`)."""

    id: int
    uid: str
    kind: Kind
    run: int | None
    argument: str
    state: State
    cause: str
    message: str
    created: float
    started: float | None
    ended: float | None
    heartbeat: float | None
    host: str | None
    boot_id: str | None
    pid_namespace: str | None
    pid: int | None
    pid_started: int | None
    done: int
    total: int | None
    doing: str
    log: Path
    turn: int | None
    places: str


COLUMNS: Final = ", ".join(field.name for field in fields(Job))
NEWEST_TRAINING: Final = "WHERE run = ? AND kind = 'train' ORDER BY id DESC LIMIT 1"


def from_row(row: tuple[Any, ...]) -> Job:
    """A job from its `COLUMNS`."""
    values = dict(zip((field.name for field in fields(Job)), row, strict=True))
    return Job(**{**values, "state": State(values["state"]), "log": Path(values["log"])})


def create(ledger: Ledger, kind: Kind, *, run: int | None, argument: dict[str, object], log: Path) -> Job:
    """A new job on this machine, last in the queue where its argument says `queue`; until its process begins its state is queued in any case.

    For a training job the run becomes queued with it, and orders to the job before are dropped.

    Raises:
        Problem: the run has a training job that is at work, or may be (`may_be_at_work`), or it was deleted.
    """
    uid = uuid.uuid4().hex[:12]
    here = machine.here()
    with ledger.transaction(durable=True) as connection:
        _refuse_binned(connection, run)
        if kind == "train" and run is not None:
            _refuse_second(connection, run)
            connection.execute("UPDATE run SET state = 'queued', cause = '' WHERE id = ?", (run,))
            # Here, not by comparing times later: a clock may have been set back since.
            connection.execute(
                "UPDATE orders SET answered = ?, answer = ? WHERE run = ? AND answered IS NULL",
                (time.time(), DROPPED, run),
            )
        connection.execute(
            "INSERT INTO job (uid, kind, run, argument, state, created, log, host, boot_id, pid_namespace, turn)"
            " VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?, "
            + ("(SELECT coalesce(max(turn), 0) + 1 FROM job))" if argument.get("queue") else "NULL)"),
            (uid, kind, run, json.dumps(argument), time.time(), str(log), here.host, here.boot_id, here.pid_namespace),
        )
    return get(ledger, uid)


def _refuse_binned(connection: sqlite3.Connection, run: int | None) -> None:
    """The caller's run may be an old one."""
    row = connection.execute("SELECT name FROM run WHERE id = ? AND deleted IS NOT NULL", (run,)).fetchone()
    if row is not None:
        do = f"Get it back first: workbench runs restore {row[0]}"
        raise Problem(f"{row[0]} is in the bin", "It was deleted.", do, code="run")


def _refuse_second(connection: sqlite3.Connection, run: int) -> None:
    """Two processes on one run would ruin its checkpoints."""
    row = connection.execute(f"SELECT {COLUMNS} FROM job {NEWEST_TRAINING}", (run,)).fetchone()
    if row is None or not may_be_at_work(job := from_row(row)):
        return
    who = f"Process {job.pid} on {job.host} works on it" if job.pid else f"A process is being started on {job.host}"
    seen = f", last heard of {time.time() - job.heartbeat:.0f} s ago" if job.heartbeat else ""
    raise Problem(f"The run is already {job.state}", f"{who}{seen}.", "Wait for it or stop it first.", code="running")


def get(ledger: Ledger, uid: str) -> Job:
    """The job with this uid.

    Raises:
        Problem: there is none.
    """
    found = _select(ledger, "WHERE uid = ?", (uid,))
    if not found:
        raise Problem(f"There is no job {uid} in {ledger.path}", code="ledger")
    return found[0]


def _select(ledger: Ledger, rest: str, values: Sequence[Value]) -> list[Job]:
    return [from_row(row) for row in ledger.rows(f"SELECT {COLUMNS} FROM job {rest}", values)]


def of_run(ledger: Ledger, run: int) -> list[Job]:
    """A run's jobs, oldest first."""
    return _select(ledger, "WHERE run = ? ORDER BY id", (run,))


def newest_training(ledger: Ledger, run: int) -> Job | None:
    """The job that trains the run, or did so last; the run's state is its own."""
    return next(iter(_select(ledger, NEWEST_TRAINING, (run,))), None)


def live(ledger: Ledger) -> list[Job]:
    """All jobs that say they are alive, of any run, oldest first; some of them may be lost (`seen_state`)."""
    return _select(ledger, f"WHERE state IN ({', '.join('?' * len(LIVE))}) ORDER BY id", sorted(LIVE))


def recent(ledger: Ledger, kind: Kind, limit: int = 20) -> list[Job]:
    """The newest jobs of a kind, newest first."""
    return _select(ledger, "WHERE kind = ? ORDER BY id DESC LIMIT ?", (kind, limit))


def sign_in(ledger: Ledger, job: Job, *, pid: int) -> Job:
    """Called by the job's process: it is here, on this machine, and alive."""
    here = machine.here()
    now = time.time()
    with ledger.transaction(durable=True) as connection:
        connection.execute(
            "UPDATE job SET state = ?, started = ?, heartbeat = ?, host = ?, boot_id = ?, pid_namespace = ?, pid = ?,"
            " pid_started = ? WHERE id = ?",
            (job.state, now, now, here.host, here.boot_id, here.pid_namespace, pid, machine.started(pid), job.id),
        )
    return get(ledger, job.uid)


def set_state(ledger: Ledger, job: Job, state: State, *, cause: str = "", message: str = "") -> None:
    """Write the state of a job and, for a training job, of its run. Ended states also write the time."""
    now = time.time()
    ended = None if state in LIVE else now
    with ledger.transaction(durable=True) as connection:
        connection.execute(
            "UPDATE job SET state = ?, cause = ?, message = ?, heartbeat = ?, ended = ? WHERE id = ?",
            (state, cause, message, now, ended, job.id),
        )
        if job.kind == "train":
            connection.execute("UPDATE run SET state = ?, cause = ? WHERE id = ?", (state, cause, job.run))


def beat(
    ledger: Ledger, job: Job, *, done: int | None = None, total: int | None = None, doing: str | None = None
) -> None:
    """Heartbeat with progress; what is None stays as it was, except that something else that is done counts anew."""
    with ledger.transaction() as connection:
        connection.execute(
            "UPDATE job SET heartbeat = :now, doing = coalesce(:doing, doing),"
            " done = coalesce(:done, CASE WHEN :doing <> doing THEN 0 ELSE done END),"
            " total = coalesce(:total, CASE WHEN :doing <> doing THEN NULL ELSE total END) WHERE id = :id",
            {"now": time.time(), "done": done, "total": total, "doing": doing, "id": job.id},
        )


def seen_state(job: Job, *, now: float | None = None) -> State:
    """The state as this machine sees it.

    `lost` when, on the job's own host, the boot id has changed or, within one boot and pid namespace, its process is gone.
    From anywhere else the written state stands: another machine cannot know. A job whose process has not signed in is lost
    after a grace period.
    """
    if job.state not in LIVE:
        return job.state
    gone = _alive(job, time.time() if now is None else now) is False
    return State.LOST if gone else job.state


def may_be_at_work(job: Job, *, now: float | None = None) -> bool:
    """Whether a second process on the same run must be refused.

    Where this machine can look, it looks; from anywhere else, and after what looks like a reboot (two machines may have one
    name), a heartbeat younger than `FRESH` counts as life.
    """
    now = time.time() if now is None else now
    if job.state not in LIVE:
        return False
    if _same_processes(job):
        return _alive(job, now) is not False
    return now - max(job.heartbeat or 0.0, job.created) < FRESH


def is_out_of_reach(job: Job, *, now: float | None = None) -> bool:
    """Whether a live job works, as far as is known, on another machine that does not write to this ledger: its rows came by merging."""
    now = time.time() if now is None else now
    return (
        job.state in LIVE and job.host != machine.here().host and now - max(job.heartbeat or 0.0, job.created) >= FRESH
    )


def _same_processes(job: Job) -> bool:
    """Whether the job's pid means the same process here."""
    here = machine.here()
    return (job.boot_id, job.pid_namespace) == (here.boot_id, here.pid_namespace)


def _alive(job: Job, now: float) -> bool | None:
    """Whether the job's process lives; None where this machine cannot know."""
    here = machine.here()
    if _same_processes(job):
        if job.pid is None:
            return now - job.created < STARTING_GRACE
        return machine.started(job.pid) == job.pid_started
    if job.host == here.host and job.boot_id != here.boot_id:
        return False
    return None
