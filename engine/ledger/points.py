"""One metric's points as columns, read from segments and tail as one.

Columns are filled in place: memory that a process has not touched yet costs more than all else of reading 100,000 points.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import Problem
from engine.ledger import integers

# With how many rows in segments that have newer ones than are known.
KEYSETS = """
    SELECT id, keys, (SELECT coalesce(sum(n), 0) FROM segment WHERE run = :run AND keyset = k.id AND last_seq > :after) AS sealed
    FROM keyset k WHERE instr(',' || keys || ',', :key)
    AND (sealed > 0 OR EXISTS (SELECT 1 FROM tail WHERE run = :run AND keyset = k.id))
"""
SEGMENTS = """
    SELECT s.id, s.n, s.last_seq, s.first_seq, s.seqs, s.steps, s.times, p.vals
    FROM segment s LEFT JOIN packed p ON p.segment = s.id AND p.key = ?
    WHERE s.run = ? AND s.keyset = ? AND s.last_seq > ? ORDER BY s.first_step
"""
Segment = tuple[int, int, int, int, bytes, bytes, bytes, bytes | None]
TailRow = tuple[int, int, float, bytes]  # sequence number, step, seconds, value


@dataclass(frozen=True, eq=False)
class Columns:
    """Equally long: steps, times in seconds since the epoch, values; `seq` is the newest sequence number among them.

    `seqs` holds those of all points, or nothing where they were not asked for.
    """

    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    seqs: NDArray[np.int64]
    seq: int


def columns(connection: sqlite3.Connection, run: int, key: int, after: int = 0) -> Columns:
    """One key of a run by step; of a step written twice, in one key set or in two, the newer.

    With `after`, only what has a higher sequence number.

    Raises:
        Problem: a segment is damaged.
    """
    found = _read(connection, run, key, after, with_seqs=after > 0)
    if not after:
        if np.all(found.steps[1:] > found.steps[:-1]):
            return found
        found = _read(connection, run, key, after, with_seqs=True)
    places = newest_by_step(found.seqs, found.steps)
    places = places[found.seqs[places] > after]
    return Columns(found.steps[places], found.times[places], found.values[places], found.seqs[places], found.seq)


def newest_by_step(seqs: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each step's row with the highest sequence number is, by step."""
    order = np.lexsort((seqs, steps))
    return order[np.append(np.diff(steps[order]) != 0, True)] if len(order) else order


def _read(connection: sqlite3.Connection, run: int, key: int, after: int, *, with_seqs: bool) -> Columns:
    """All of the key, segments first, a key set after the other."""
    keysets = connection.execute(KEYSETS, {"run": run, "after": after, "key": f",{key},"}).fetchall()
    tails = [_tail(connection, run, keyset, keys.split(",").index(str(key)), after) for keyset, keys, _ in keysets]
    n = sum(sealed for *_, sealed in keysets) + sum(map(len, tails))
    found = Columns(np.empty(n, np.int64), np.empty(n), np.empty(n), np.empty(n if with_seqs else 0, np.int64), after)
    start, seq = 0, after
    for (keyset, _, _), tail in zip(keysets, tails, strict=True):
        for segment in connection.execute(SEGMENTS, (key, run, keyset, after)):
            _put_segment(found, start, segment)
            start += segment[1]
            seq = max(seq, segment[2])
        if tail:
            seq = max(seq, _put_tail(found, start, tail))
            start += len(tail)
    return Columns(found.steps, found.times, found.values, found.seqs, seq)


def _tail(connection: sqlite3.Connection, run: int, keyset: int, place: int, after: int) -> list[TailRow]:
    # From the start the index by step is quicker, for an increment the newest rows are; the plus keeps SQLite from the index.
    where = "seq > ? AND +run = ? AND +keyset = ?" if after else "seq > ? AND run = ? AND keyset = ?"
    return connection.execute(
        f"SELECT seq, step, time, substr(vals, ?, 8) FROM tail WHERE {where} ORDER BY step",
        (1 + 8 * place, after, run, keyset),
    ).fetchall()


def _put_tail(into: Columns, start: int, rows: list[TailRow]) -> int:
    """The rows at `start`; returns their newest sequence number."""
    seqs, steps, times, values = zip(*rows, strict=True)
    inside = slice(start, start + len(rows))
    into.steps[inside] = steps
    into.times[inside] = times
    into.values[inside] = np.frombuffer(b"".join(values), "<f8")
    if len(into.seqs):
        into.seqs[inside] = seqs
    return int(max(seqs))


def _put_segment(into: Columns, start: int, segment: Segment) -> None:
    """The segment's points at `start`.

    Raises:
        Problem: it is damaged.
    """
    number, n, _, first, seqs, steps, times, values = segment
    inside = slice(start, start + n)
    try:
        into.steps[inside] = integers.unpack(steps, n)
        np.divide(integers.unpack(times, n), 1000, out=into.times[inside])
        into.values[inside] = floats(values, n)
        if len(into.seqs):
            np.add(integers.unpack(seqs, n), first, out=into.seqs[inside])
    except ValueError as error:
        raise damaged(number, error) from error


def floats(packed: bytes | None, n: int) -> NDArray[np.float64]:
    """The `n` values of a key.

    Raises:
        ValueError: there are not so many.
    """
    if packed is None or len(packed) != 8 * n:
        raise ValueError(f"it has not {n} values of each key")
    return np.frombuffer(packed, "<f8")


def damaged(segment: int, error: ValueError) -> Problem:
    """What to say of a segment that cannot be read."""
    return Problem(
        "The ledger holds metrics that cannot be read",
        f"Segment {segment} is damaged: {error}.",
        "Look what else is: workbench ledger check. Restore a copy.",
        code="ledger",
    )
