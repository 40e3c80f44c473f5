"""How metrics lie in the ledger: a log call is one row of packed float64, a key's summary stands beside it.

Rows begin in the tail and end in segments (`sealing`); readers see one. Everything here happens on a connection inside a transaction
(or one short read) of the caller.
"""

from __future__ import annotations

import math
import operator
import sqlite3
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from engine.errors import Problem
from engine.ledger import points, schema

WEIGHT: Final = 0.9  # of what came before, in a smoothed value: about the mean of the last ten
REMEMBERED: Final = 400  # points; those further back weigh less than float64 can tell (0.9 ** 400 is 5e-19)


class Row(NamedTuple):
    """One log call: the values of several keys at one step, `time` in seconds since the epoch (kept to the millisecond)."""

    sequence: int
    step: int
    time: float
    names: tuple[str, ...]
    values: tuple[float, ...]


class Totals(NamedTuple):
    """What `series` keeps of a key: `n` steps, `gaps` of them NaN or infinite; lowest, highest and `smoothed` of the finite ones.

    `smoothed` is the exponential moving average at the last step, each point weighing `WEIGHT` times as much as the one behind it,
    corrected for its beginning as in Adam (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, section 3) and in TensorBoard's charts.
    """

    n: int = 0
    gaps: int = 0
    last: float | None = None  # None where the last is a gap
    last_step: int = 0
    low: float | None = None
    low_step: int | None = None
    high: float | None = None
    high_step: int | None = None
    smoothed: float | None = None

    def followed_by(self, steps: Sequence[int], values: Sequence[float]) -> Totals:
        """With points of later steps, which rise; of equal extremes the first counts.

        Plain Python: most of the time these are a few points, of which NumPy would spend ten times as long on the call itself.
        """
        if not steps:
            return self
        low, low_step, high, high_step = self.low, self.low_step, self.high, self.high_step
        drawn = list(filter(math.isfinite, values))
        if drawn:
            lowest, highest = min(drawn), max(drawn)
            if low is None or lowest < low:
                low, low_step = lowest, steps[values.index(lowest)]
            if high is None or highest > high:
                high, high_step = highest, steps[values.index(highest)]
        return Totals(
            self.n + len(steps),
            self.gaps + len(steps) - len(drawn),
            values[-1] if math.isfinite(values[-1]) else None,
            steps[-1],
            *(low, low_step, high, high_step),
            _smoothed(self.smoothed, self.n - self.gaps, drawn),
        )


NOTHING: Final = Totals()
_TOTALS: Final = "SELECT key, n, gaps, last, last_step, min, min_step, max, max_step, smoothed FROM series"
_KEEP: Final = (
    "INSERT OR REPLACE INTO series (run, key, n, gaps, last, last_step, min, min_step, max, max_step, smoothed)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def _smoothed(before: float | None, count: int, values: Sequence[float]) -> float | None:
    """The average `before`, over `count` values, with more of them."""
    first = max(0, len(values) - REMEMBERED)
    for number, value in enumerate(values[first:], count + first + 1):
        share = (1 - WEIGHT) / (1 - WEIGHT**number)
        before = value if before is None else (1 - share) * before + share * value
    return before


class Packer:
    """Writes one run's rows, remembering the ids of keys and key sets."""

    def __init__(self, run: int) -> None:
        self._run = run
        self._keys: dict[str, int] = {}
        self._keysets: dict[tuple[str, ...], int] = {}

    def write(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Write rows to the tail, bring the summaries up to date and mark the run as changed.

        A row replaces what the same keys had at its step. The caller seals (`sealing.seal`) what has gathered, at the latest when
        nothing more will come.

        Raises:
            sqlite3.Error: the caller rolls back and calls `forget`.
        """
        rows = [row for row in rows if row.names]
        connection.executemany(
            "INSERT OR REPLACE INTO tail (run, keyset, step, time, vals) VALUES (?, ?, ?, ?, ?)",
            [
                (self._run, self._keyset(connection, row.names), row.step, round(row.time, 3), _packed(row.values))
                for row in rows
            ],
        )
        self._summarise(connection, rows)
        connection.execute(f"{schema.CHANGED} ?", (self._run,))

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
        """Add new steps to the totals; where a step was replayed, count them anew from all points."""
        before = {
            key: Totals(*summary) for key, *summary in connection.execute(f"{_TOTALS} WHERE run = ?", (self._run,))
        }
        after = []
        for name, (steps, values) in _by_key(rows).items():
            key = self._keys[name]
            stood = before.get(key, NOTHING)
            rise = all(map(operator.lt, steps, steps[1:])) and (stood.n == 0 or steps[0] > stood.last_step)
            known = stood.smoothed is not None or stood.n == stood.gaps  # older ledgers did not keep it
            if rise and known:
                now = stood.followed_by(steps, values)
            else:
                try:
                    now = recounted(connection, self._run, key)
                except Problem:  # what is damaged is told by a check; new rows are not lost for it
                    now = stood.followed_by(steps, values)
            after.append((self._run, key, *now))
        connection.executemany(_KEEP, after)


def _by_key(rows: Sequence[Row]) -> dict[str, tuple[Sequence[int], Sequence[float]]]:
    """Steps and values of each key, in the order in which they were logged."""
    places: dict[tuple[str, ...], list[int]] = {}  # of the rows of a key set
    for place, row in enumerate(rows):
        places.setdefault(row.names, []).append(place)
    found: dict[str, tuple[Sequence[int], Sequence[float]]] = {}
    twice: set[str] = set()
    for names, inside in places.items():
        steps = [rows[place].step for place in inside]
        twice |= found.keys() & set(names)
        found |= {
            name: (steps, values)
            for name, values in zip(names, zip(*(rows[place].values for place in inside), strict=True), strict=True)
        }
    for name in twice:  # it is in several key sets
        told = [(row.step, row.values[row.names.index(name)]) for row in rows if name in row.names]
        found[name] = [step for step, _ in told], [value for _, value in told]
    return found


def _packed(values: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def totals(connection: sqlite3.Connection, run: int, key: int) -> Totals:
    """A key's summary; with `n` 0 where the run has no such metric."""
    row = connection.execute(f"{_TOTALS} WHERE run = ? AND key = ?", (run, key)).fetchone()
    return Totals(*row[1:]) if row else NOTHING


def recounted(connection: sqlite3.Connection, run: int, key: int) -> Totals:
    """A key's summary taken from all its points.

    Raises:
        Problem: a segment is damaged.
    """
    found = points.columns(connection, run, key)
    return NOTHING.followed_by(found.steps.tolist(), found.values.tolist())


def keep(connection: sqlite3.Connection, run: int, key: int, summary: Totals) -> None:
    """Make this the key's summary."""
    connection.execute(_KEEP, (run, key, *summary))
