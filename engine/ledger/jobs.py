"""Jobs in the ledger: processes at work, and the truth about those that vanished."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

from engine import machine
from engine.errors import Problem
from engine.ledger.states import LIVE, State
from engine.ledger.store import Ledger

Kind = Literal["train", "evaluate"]
FRESH: Final = 30.0  # seconds: a younger heartbeat is a living job's
STARTING_GRACE: Final = 15.0  # seconds from creating a job to its process having signed in


@dataclass(frozen=True)
class Job:
    """One row of `job`. Times are seconds since the epoch; `argument` is JSON."""

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


COLUMNS: Final = ", ".join(field.name for field in fields(Job))


def from_row(row: tuple[Any, ...]) -> Job:
    """A job from its `COLUMNS`."""
    values = dict(zip((field.name for field in fields(Job)), row, strict=True))
    return Job(**{**values, "state": State(values["state"]), "log": Path(values["log"])})


def create(ledger: Ledger, kind: Kind, *, run: int | None, argument: dict[str, object], log: Path) -> Job:
    """A new queued job. For a training job the run becomes queued with it.

    Raises:
        Problem: the run has a training job that is still alive.
    """
    uid = uuid.uuid4().hex[:12]
    with ledger.transaction(durable=True) as connection:
        if kind == "train" and run is not None:
            row = connection.execute(
                f"SELECT {COLUMNS} FROM job WHERE run = ? AND kind = 'train' ORDER BY id DESC LIMIT 1", (run,)
            ).fetchone()
            if row and seen_state(from_row(row)) in LIVE:
                job = from_row(row)
                raise Problem(
                    f"The run is already {job.state}",
                    f"Process {job.pid} on {job.host} works on it.",
                    "Wait for it or stop it first.",
                    code="running",
                )
            connection.execute("UPDATE run SET state = 'queued', cause = '' WHERE id = ?", (run,))
        connection.execute(
            "INSERT INTO job (uid, kind, run, argument, state, created, log) VALUES (?, ?, ?, ?, 'queued', ?, ?)",
            (uid, kind, run, json.dumps(argument), time.time(), str(log)),
        )
    return get(ledger, uid)


def get(ledger: Ledger, uid: str) -> Job:
    """The job with this uid.

    Raises:
        Problem: there is none.
    """
    rows = ledger.rows(f"SELECT {COLUMNS} FROM job WHERE uid = ?", (uid,))
    if not rows:
        raise Problem(f"There is no job {uid} in {ledger.path}", code="ledger")
    return from_row(rows[0])


def of_run(ledger: Ledger, run: int) -> list[Job]:
    """A run's jobs, oldest first."""
    return [from_row(row) for row in ledger.rows(f"SELECT {COLUMNS} FROM job WHERE run = ? ORDER BY id", (run,))]


def live(ledger: Ledger) -> list[Job]:
    """All jobs that say they are alive, of any run, oldest first; some of them may be lost (`seen_state`)."""
    marks = ", ".join("?" * len(LIVE))
    return [
        from_row(row)
        for row in ledger.rows(f"SELECT {COLUMNS} FROM job WHERE state IN ({marks}) ORDER BY id", sorted(LIVE))
    ]


def recent(ledger: Ledger, kind: Kind, limit: int = 20) -> list[Job]:
    """The newest jobs of a kind, newest first."""
    return [
        from_row(row)
        for row in ledger.rows(f"SELECT {COLUMNS} FROM job WHERE kind = ? ORDER BY id DESC LIMIT ?", (kind, limit))
    ]


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
    """Heartbeat with progress; what is None stays as it was."""
    with ledger.transaction() as connection:
        connection.execute(
            "UPDATE job SET heartbeat = ?, done = coalesce(?, done), total = coalesce(?, total),"
            " doing = coalesce(?, doing) WHERE id = ?",
            (time.time(), done, total, doing, job.id),
        )


def seen_state(job: Job, *, now: float | None = None) -> State:
    """The state as this machine sees it.

    `lost` when, on the job's own host, the boot id has changed or, within one boot and pid namespace, its process is gone.
    From anywhere else the written state stands: another machine cannot know. A job whose process never signed in is lost
    after a grace period.
    """
    if job.state not in LIVE:
        return job.state
    here = machine.here()
    if job.pid is None:
        grace_over = (now or time.time()) - job.created > STARTING_GRACE
        return State.LOST if grace_over else job.state
    if job.host != here.host:
        return job.state
    if job.boot_id != here.boot_id:
        return State.LOST
    if job.pid_namespace == here.pid_namespace and machine.started(job.pid) != job.pid_started:
        return State.LOST
    return job.state
