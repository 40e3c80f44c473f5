"""Rows that have gathered in the tail become segments: a column a key, a third smaller and read fifty times as fast.

A segment holds up to `SEGMENT` rows of one key set, by step. Segments of a run's key set do not overlap: rows at steps of which some
are sealed already (replayed after a resume), or behind a segment that is not full, are merged with what stands there. Sequence
numbers are kept, so that a reader who looks again, and one who meets a key in two key sets, find the newest as they would in the tail.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.ledger import integers
from engine.ledger.points import damaged, floats, newest_by_step

SEGMENT: Final = 4096  # rows


class Rows(NamedTuple):
    """Rows of one key set: sequence numbers, steps, milliseconds since the epoch, values (rows x keys)."""

    seqs: NDArray[np.int64]
    steps: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float64]

    def at(self, places: NDArray[np.intp] | slice) -> Rows:
        """Some of them, in that order."""
        return Rows(self.seqs[places], self.steps[places], self.times[places], self.values[places])


def seal(connection: sqlite3.Connection, run: int) -> None:
    """Seal all that the run has in the tail, in the caller's transaction. What can be read is the same before and after.

    Raises:
        Problem: a segment is damaged.
        sqlite3.Error: it cannot be written; the caller rolls back.
    """
    for keyset, keys in connection.execute(
        "SELECT id, keys FROM keyset WHERE id IN (SELECT DISTINCT keyset FROM tail WHERE run = ?)", (run,)
    ).fetchall():
        _seal(connection, run, keyset, [int(key) for key in keys.split(",")])


def _seal(connection: sqlite3.Connection, run: int, keyset: int, keys: list[int]) -> None:
    """Take out what is there, put in what comes of it: in this order the new segments can have the pages of the old rows."""
    gathered = _taken_from_tail(connection, run, keyset)
    met = _met(connection, run, keyset, int(gathered.steps.min()), int(gathered.steps.max()))
    rows = _joined([*(_taken_from_segment(connection, segment, keys) for segment in met), gathered])
    rows = rows.at(newest_by_step(rows.seqs, rows.steps))
    for start in range(0, len(rows.seqs), SEGMENT):
        _write(connection, run, keyset, keys, rows.at(slice(start, start + SEGMENT)))


def _joined(parts: list[Rows]) -> Rows:
    return Rows(
        np.concatenate([part.seqs for part in parts]),
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def _met(connection: sqlite3.Connection, run: int, keyset: int, first: int, last: int) -> Iterable[int]:
    """The segments that share steps with these, and the one before them if it is not full."""
    before = connection.execute(
        "SELECT first_step, n FROM segment WHERE run = ? AND keyset = ? AND first_step < ? ORDER BY first_step DESC LIMIT 1",
        (run, keyset, first),
    ).fetchone()
    if before and before[1] < SEGMENT:
        first = before[0]
    found = connection.execute(
        "SELECT id FROM segment WHERE run = ? AND keyset = ? AND first_step <= ? AND last_step >= ?",
        (run, keyset, last, first),
    )
    return [row[0] for row in found]


def _taken_from_tail(connection: sqlite3.Connection, run: int, keyset: int) -> Rows:
    found = connection.execute(
        "DELETE FROM tail WHERE run = ? AND keyset = ? RETURNING seq, step, time, vals", (run, keyset)
    ).fetchall()
    seqs, steps, times, values = zip(*found, strict=True)
    return Rows(
        np.array(seqs, np.int64),
        np.array(steps, np.int64),
        np.rint(np.array(times, np.float64) * 1000).astype(np.int64),
        np.frombuffer(b"".join(values), "<f8").reshape(len(found), -1),
    )


def _taken_from_segment(connection: sqlite3.Connection, segment: int, keys: list[int]) -> Rows:
    columns = dict(connection.execute("SELECT key, vals FROM packed WHERE segment = ?", (segment,)).fetchall())
    n, first, seqs, steps, times = connection.execute(
        "DELETE FROM segment WHERE id = ? RETURNING n, first_seq, seqs, steps, times", (segment,)
    ).fetchone()
    try:
        return Rows(
            first + integers.unpack(seqs, n),
            integers.unpack(steps, n),
            integers.unpack(times, n),
            np.stack([floats(columns.get(key), n) for key in keys], axis=1),
        )
    except ValueError as error:
        raise damaged(segment, error) from error


def _write(connection: sqlite3.Connection, run: int, keyset: int, keys: list[int], rows: Rows) -> None:
    first = int(rows.seqs.min())
    made = connection.execute(
        "INSERT INTO segment (run, keyset, first_step, last_step, n, last_seq, first_seq, steps, seqs, times)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(run, keyset, int(rows.steps[0]), int(rows.steps[-1]), len(rows.steps), int(rows.seqs.max()), first),
            *(integers.pack(rows.steps), integers.pack(rows.seqs - first), integers.pack(rows.times)),
        ),
    ).lastrowid
    connection.executemany(
        "INSERT INTO packed (segment, key, vals) VALUES (?, ?, ?)",
        [(made, key, rows.values[:, place].tobytes()) for place, key in enumerate(keys)],
    )
