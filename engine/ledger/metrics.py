"""Metrics: written through a thread that never holds up the training loop (`Writer`), read back as NumPy columns.

NaN and infinities are kept. Replayed steps (after a resume) replace what stood there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.ledger import points
from engine.ledger.store import Ledger
from engine.ledger.writer import Writer

__all__ = ["Curve", "Writer", "curve", "curves", "keys"]

Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True)
class Curve:
    """One metric of a run by step: equal-length columns, steps rising; times in seconds since the epoch.

    `seq` is where an increment goes on.
    """

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]
    seq: int

    def joined(self, increment: Curve) -> Curve:
        """This curve with what `curve(..., after=self.seq)` gave since; a step in both is taken from there."""
        if not len(increment.steps):
            return self
        same = int(np.searchsorted(self.steps, increment.steps[0]))  # before that nothing was added
        kept = same + np.flatnonzero(~np.isin(self.steps[same:], increment.steps))
        order = np.argsort(np.concatenate([self.steps[kept], increment.steps]), kind="stable")

        def merged(mine: NDArray[Number], theirs: NDArray[Number]) -> NDArray[Number]:
            return np.concatenate([mine[:same], np.concatenate([mine[kept], theirs])[order]])

        return Curve(
            merged(self.steps, increment.steps),
            merged(self.values, increment.values),
            merged(self.times, increment.times),
            increment.seq,
        )


def keys(ledger: Ledger, run: int) -> list[str]:
    """The names of all metrics that the run has."""
    query = "SELECT k.name FROM series s JOIN key k ON k.id = s.key WHERE s.run = ? ORDER BY k.name"
    return [str(row[0]) for row in ledger.rows(query, (run,))]


def curve(ledger: Ledger, run: int, name: str, *, after: int = 0) -> Curve:
    """A metric's points by step, or only those committed after `seq` `after`; replayed steps come again with a new seq.

    Empty where the run has no such metric.

    Raises:
        Problem: the ledger is damaged or can no longer be read.
    """
    with ledger.reading() as connection:
        return _curve(connection, run, name, after)


def curves(ledger: Ledger, run: int, names: Iterable[str]) -> dict[str, Curve]:
    """Several metrics as they stood at one moment, by name; otherwise as `curve`."""
    with ledger.reading() as connection:
        return {name: _curve(connection, run, name, 0) for name in names}


def _curve(connection: sqlite3.Connection, run: int, name: str, after: int) -> Curve:
    row = connection.execute("SELECT id FROM key WHERE name = ?", (name,)).fetchone()
    if row is None:
        return Curve(np.empty(0, np.int64), np.empty(0), np.empty(0), after)
    found = points.columns(connection, run, row[0], after)
    return Curve(found.steps, found.values, found.times, found.seq)
