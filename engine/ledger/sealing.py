"""Rows that have gathered in the tail become segments: a column a key, a third smaller and read fifty times as fast.

A segment holds up to `SEGMENT` rows of one key set, by step. Segments of a run's key set do not overlap: rows at steps of which some
are sealed already (replayed after a resume), or behind a segment that is not full, are merged with what stands there. Sequence
numbers are kept, so that a reader who looks again, and one who meets a key in two key sets, find the newest as they would in the tail.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

from engine.ledger import integers, points
from engine.ledger.points import Points

SEGMENT: Final = 4096  # rows


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
    rows = points.unsealed(
        connection.execute(
            "DELETE FROM tail WHERE run = ? AND keyset = ? RETURNING seq, step, time, vals", (run, keyset)
        ).fetchall()
    )
    met = _met(connection, run, keyset, int(rows.steps.min()), int(rows.steps.max()))
    rows = points.joined([*(_taken(connection, segment, keys) for segment in met), rows]).newest()
    for start in range(0, len(rows.seqs), SEGMENT):
        _write(connection, run, keyset, keys, rows.at(slice(start, start + SEGMENT)))


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


def _taken(connection: sqlite3.Connection, segment: int, keys: list[int]) -> Points:
    """A segment's rows, which are in it no more."""
    columns = dict(connection.execute("SELECT key, vals FROM packed WHERE segment = ?", (segment,)).fetchall())
    n, *packed = connection.execute(
        "DELETE FROM segment WHERE id = ? RETURNING n, first_seq, seqs, steps, times", (segment,)
    ).fetchone()
    first, seqs, steps, times = packed
    return points.sealed(segment, n, (first, seqs, steps, times), [columns.get(key) for key in keys])


def _write(connection: sqlite3.Connection, run: int, keyset: int, keys: list[int], rows: Points) -> None:
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
