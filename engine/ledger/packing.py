"""How metrics lie in the ledger: a log call is one row of packed float64, a key's summary stands beside it.

Everything here happens on a connection inside a transaction (or one short read) of the caller.
"""

from __future__ import annotations

import math
import sqlite3
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, float]  # step, value


class Row(NamedTuple):
    """One log call: the values of several keys at one step, `time` in seconds since the epoch."""

    sequence: int
    step: int
    time: float
    names: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Totals:
    """What `series` keeps of a key: `n` steps, `gaps` of them NaN or infinite; lowest and highest of the finite ones."""

    n: int = 0
    gaps: int = 0
    last: float | None = None  # None where the last is a gap
    last_step: int = 0
    low: float | None = None
    low_step: int | None = None
    high: float | None = None
    high_step: int | None = None

    def followed_by(self, points: Iterable[Point]) -> Totals:
        """With points of later steps; of equal extremes the first counts."""
        n, gaps, last, last_step = self.n, self.gaps, self.last, self.last_step
        low, low_step, high, high_step = self.low, self.low_step, self.high, self.high_step
        for step, value in points:
            n += 1
            last_step = step
            if not math.isfinite(value):
                gaps += 1
                last = None
                continue
            last = value
            if low is None or value < low:
                low, low_step = value, step
            if high is None or value > high:
                high, high_step = value, step
        return Totals(n, gaps, last, last_step, low, low_step, high, high_step)


class Packer:
    """Writes one run's rows, remembering the ids of keys and key sets."""

    def __init__(self, run: int) -> None:
        self._run = run
        self._keys: dict[str, int] = {}
        self._keysets: dict[tuple[str, ...], int] = {}

    def write(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Write rows and bring the summaries up to date. A row replaces what the same keys had at its step.

        Raises:
            sqlite3.Error: the caller rolls back and calls `forget`.
        """
        connection.executemany(
            "INSERT OR REPLACE INTO tail (run, keyset, step, time, vals) VALUES (?, ?, ?, ?, ?)",
            [(self._run, self._keyset(connection, row.names), row.step, row.time, _packed(row.values)) for row in rows],
        )
        self._summarise(connection, rows)

    def forget(self) -> None:
        """Ids made in a transaction that was rolled back are none."""
        self._keys.clear()
        self._keysets.clear()

    def _keyset(self, connection: sqlite3.Connection, names: tuple[str, ...]) -> int:
        if names not in self._keysets:
            for name in names:
                if name not in self._keys:
                    connection.execute("INSERT OR IGNORE INTO key (name) VALUES (?)", (name,))
                    self._keys[name] = connection.execute("SELECT id FROM key WHERE name = ?", (name,)).fetchone()[0]
            ids = ",".join(str(self._keys[name]) for name in names)
            connection.execute("INSERT OR IGNORE INTO keyset (keys) VALUES (?)", (ids,))
            self._keysets[names] = connection.execute("SELECT id FROM keyset WHERE keys = ?", (ids,)).fetchone()[0]
        return self._keysets[names]

    def _summarise(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Add new steps to the totals; where a step was replayed, take them anew from all points."""
        added: dict[str, list[Point]] = {}
        for row in rows:
            for name, value in zip(row.names, row.values, strict=True):
                added.setdefault(name, []).append((row.step, value))
        for name, points in added.items():
            key = self._keys[name]
            stood = totals(connection, self._run, key)
            grows = all(before[0] < after[0] for before, after in pairwise(points))
            if grows and (stood.n == 0 or points[0][0] > stood.last_step):
                now = stood.followed_by(points)
            else:
                _, steps, _, values = columns(connection, self._run, key)
                now = Totals().followed_by(zip(steps.tolist(), values.tolist(), strict=True))
            connection.execute(
                "INSERT OR REPLACE INTO series (run, key, n, gaps, last, last_step, min, min_step, max, max_step)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(self._run, key, now.n, now.gaps, now.last, now.last_step),
                    *(now.low, now.low_step, now.high, now.high_step),
                ),
            )


def _packed(values: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def totals(connection: sqlite3.Connection, run: int, key: int) -> Totals:
    """A key's summary; with `n` 0 where the run has no such metric."""
    row = connection.execute(
        "SELECT n, gaps, last, last_step, min, min_step, max, max_step FROM series WHERE run = ? AND key = ?",
        (run, key),
    ).fetchone()
    return Totals(*row) if row else Totals()


def columns(
    connection: sqlite3.Connection, run: int, key: int, after: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Sequence numbers, steps, times and values of one key, by step; of a step written twice the newer.

    With `after`, only rows with a higher sequence number.
    """
    # From the start the index by step is quicker, for an increment the newest rows are; the plus keeps SQLite from the index.
    where = "seq > ? AND +run = ? AND +keyset = ?" if after else "seq > ? AND run = ? AND keyset = ?"
    found: list[tuple[int, int, float, bytes]] = []
    for keyset, text in connection.execute("SELECT id, keys FROM keyset").fetchall():
        keys = text.split(",")
        if str(key) in keys:
            found += connection.execute(
                f"SELECT seq, step, time, substr(vals, ?, 8) FROM tail WHERE {where}",
                (1 + 8 * keys.index(str(key)), after, run, keyset),
            )
    sequences = np.array([row[0] for row in found], np.int64)
    steps = np.array([row[1] for row in found], np.int64)
    times = np.array([row[2] for row in found], np.float64)
    values = np.frombuffer(b"".join(row[3] for row in found), "<f8")
    order = np.lexsort((sequences, steps))
    order = order[np.append(np.diff(steps[order]) != 0, True)] if len(order) else order
    return sequences[order], steps[order], times[order], values[order]
