"""Events of runs and jobs: what happened, for people."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from engine.ledger.store import Ledger, Value

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Event:
    """`kind` is one word (checkpoint, sample, gradient, order, resumed, evaluation, ...); `step` the optimizer step, if any."""

    id: int
    run: int | None
    time: float
    step: int | None
    level: Level
    kind: str
    text: str
    detail: dict[str, object]

    @property
    def said(self) -> str:
        """The text; the model's words are told from ours."""
        return f"sample: {self.text}" if self.kind == "sample" else self.text


def add(
    ledger: Ledger,
    kind: str,
    text: str,
    *,
    run: int | None,
    job: int | None = None,
    step: int | None = None,
    level: Level = "info",
    detail: Mapping[str, object] | None = None,
) -> None:
    """Append an event."""
    with ledger.transaction() as connection:
        insert(connection, kind, text, run=run, job=job, step=step, level=level, detail=detail)


def insert(
    connection: sqlite3.Connection,
    kind: str,
    text: str,
    *,
    run: int | None,
    job: int | None = None,
    step: int | None = None,
    level: Level = "info",
    detail: Mapping[str, object] | None = None,
) -> None:
    """Append an event inside a transaction of the caller's, so that it stands if and only if the rest does."""
    connection.execute(
        "INSERT INTO event (run, job, time, step, level, kind, text, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (run, job, time.time(), step, level, kind, text, json.dumps(dict(detail or {}))),
    )


def of_run(ledger: Ledger, run: int, *, after: int = 0, limit: int = 1000) -> list[Event]:
    """A run's newest `limit` events with an id above `after`, oldest first."""
    return _select(ledger, "run = ? AND id > ? ORDER BY id DESC LIMIT ?", (run, after, limit))[::-1]


def of_kind(ledger: Ledger, run: int, kind: str) -> list[Event]:
    """All events of one kind of a run, oldest first."""
    return _select(ledger, "run = ? AND kind = ? ORDER BY id", (run, kind))


def _select(ledger: Ledger, where: str, values: tuple[Value, ...]) -> list[Event]:
    rows = ledger.rows(f"SELECT id, run, time, step, level, kind, text, detail FROM event WHERE {where}", values)
    return [Event(*(*row, json.loads(detail))) for *row, detail in rows]
