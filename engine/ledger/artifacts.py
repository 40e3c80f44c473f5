"""Files that a run left and that outlive its checkpoints: its results and what was exported of them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.ledger.runs import Run
from engine.ledger.store import Ledger, table

Kind = Literal["adapter", "model", "export"]


@dataclass(frozen=True)
class Artifact:
    """A folder. `path` is relative to the run's folder, or absolute where it lies elsewhere; `fingerprint` is over its files' names and bytes."""

    kind: Kind
    path: str
    bytes: int
    fingerprint: str
    created: float


def add(ledger: Ledger, run: Run, kind: Kind, path: Path, *, size: int, fingerprint: str) -> None:
    """Record a folder that is complete on disk; what was recorded at its path before is replaced."""
    inside = path.is_relative_to(run.folder)
    where = (path.relative_to(run.folder) if inside else path).as_posix()
    known = {
        "run": run.id,
        "kind": kind,
        "path": where,
        "bytes": size,
        "fingerprint": fingerprint,
        "created": time.time(),
    }
    with ledger.transaction(durable=True) as connection:
        connection.execute("DELETE FROM artifact WHERE run = ? AND path = ?", (run.id, where))
        table(connection, "artifact").insert(known)


def of_run(ledger: Ledger, run: int) -> list[Artifact]:
    """A run's artifacts, the newest last."""
    query = "SELECT kind, path, bytes, fingerprint, created FROM artifact WHERE run = ? ORDER BY created, id"
    return [Artifact(*row) for row in ledger.rows(query, (run,))]
