"""Checkpoints that a run has on disk."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import PurePosixPath

from engine.ledger.store import Ledger, table


@dataclass(frozen=True)
class Checkpoint:
    """`path` is relative to the run's folder; `validation` the loss at that step, if measured."""

    step: int
    time: float
    path: PurePosixPath
    bytes: int
    validation: float | None
    best: bool


def add(ledger: Ledger, run: int, *, step: int, path: str, size: int, validation: float | None, best: bool) -> None:
    """Record a checkpoint that is complete on disk.

    A new best takes the mark from the old one; a replayed step replaces its row.
    """
    with ledger.transaction(durable=True) as connection:
        if best:
            connection.execute("UPDATE checkpoint SET best = 0 WHERE run = ?", (run,))
        connection.execute("DELETE FROM checkpoint WHERE run = ? AND step = ?", (run, step))
        table(connection, "checkpoint").insert(
            {
                "run": run,
                "step": step,
                "time": time.time(),
                "path": path,
                "bytes": size,
                "validation": validation,
                "best": int(best),
            }
        )


def remove(ledger: Ledger, run: int, *, step: int) -> None:
    """Forget a checkpoint, before its files go."""
    with ledger.transaction(durable=True) as connection:
        connection.execute("DELETE FROM checkpoint WHERE run = ? AND step = ?", (run, step))


def of_run(ledger: Ledger, run: int) -> list[Checkpoint]:
    """A run's checkpoints by step."""
    rows = ledger.rows(
        "SELECT step, time, path, bytes, validation, best FROM checkpoint WHERE run = ? ORDER BY step", (run,)
    )
    return [
        Checkpoint(step, when, PurePosixPath(str(path)), size, loss, bool(best))
        for step, when, path, size, loss, best in rows
    ]
