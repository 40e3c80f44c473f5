"""What runs left on the disk: results and exports, with the fingerprint that they had."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Literal

from engine.ledger.store import Ledger

Kind = Literal["adapter", "model", "export"]


@dataclass(frozen=True)
class Artifact:
    """`path` is relative to the run's folder, or absolute where it lies elsewhere; `created` in seconds since the epoch."""

    kind: Kind
    path: str
    bytes: int
    fingerprint: str
    created: float


_COLUMNS = ", ".join(field.name for field in fields(Artifact))


def record(ledger: Ledger, run: int, *, kind: Kind, path: str, size: int, fingerprint: str) -> None:
    """What the run has left at `path` now, `size` bytes of it, in place of what it had left there before."""
    with ledger.transaction(durable=True) as connection:
        connection.execute(
            f"INSERT OR REPLACE INTO artifact (run, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
            (run, kind, path, size, fingerprint, time.time()),
        )


def of_run(ledger: Ledger, run: int) -> list[Artifact]:
    """What a run left, oldest first."""
    return [Artifact(*row) for row in ledger.rows(f"SELECT {_COLUMNS} FROM artifact WHERE run = ? ORDER BY id", (run,))]
