"""A run's points as columns, read from segments and tail as one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.errors import Problem
from engine.ledger import integers


class Points(NamedTuple):
    """Equally long: sequence numbers, steps, milliseconds since the epoch, and values (of several keys: points x keys)."""

    seqs: NDArray[np.int64]
    steps: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float64]

    def at(self, places: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Points:
        """Some of them, in that order."""
        return Points(self.seqs[places], self.steps[places], self.times[places], self.values[places])

    def newest(self) -> Points:
        """By step; of a step that comes twice, the point with the higher sequence number."""
        if bool(np.all(self.steps[1:] > self.steps[:-1])):
            return self
        order = np.lexsort((self.seqs, self.steps))
        return self.at(order[np.append(np.diff(self.steps[order]) != 0, True)])


NONE = Points(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def joined(parts: Sequence[Points]) -> Points:
    """One after another."""
    return Points(
        np.concatenate([part.seqs for part in parts]),
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.times for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def columns(connection: sqlite3.Connection, run: int, key: int, after: int = 0) -> Points:
    """One key of a run by step; of a step written twice, in one key set or in two, the newer.

    With `after`, only what has a higher sequence number.

    Raises:
        Problem: a segment is damaged.
    """
    keysets = connection.execute(
        "SELECT id, keys FROM keyset k WHERE instr(',' || keys || ',', ?) AND"
        " (EXISTS (SELECT 1 FROM tail WHERE run = ? AND keyset = k.id)"
        " OR EXISTS (SELECT 1 FROM segment WHERE run = ? AND keyset = k.id))",
        (f",{key},", run, run),
    ).fetchall()
    parts = [NONE]
    for keyset, keys in keysets:
        parts += _sealed(connection, run, keyset, key, after)
        parts += _unsealed(connection, run, keyset, keys.split(",").index(str(key)), after)
    return joined(parts).newest()


def _sealed(connection: sqlite3.Connection, run: int, keyset: int, key: int, after: int) -> Iterator[Points]:
    """One key of the segments of a key set, by step."""
    for segment, n, first, seqs, steps, times, values in connection.execute(
        "SELECT s.id, s.n, s.first_seq, s.seqs, s.steps, s.times, p.vals FROM segment s LEFT JOIN packed p"
        " ON p.segment = s.id AND p.key = ? WHERE s.run = ? AND s.keyset = ? AND s.last_seq > ? ORDER BY s.first_step",
        (key, run, keyset, after),
    ):
        found = sealed(segment, n, (first, seqs, steps, times), [values])
        found = found._replace(values=found.values[:, 0])
        yield found.at(found.seqs > after) if after else found


def sealed(segment: int, n: int, packed: tuple[int, bytes, bytes, bytes], values: Sequence[bytes | None]) -> Points:
    """A segment's `n` rows from its first sequence number, its packed sequence numbers, steps and times, and its keys' values.

    Raises:
        Problem: something of it is missing or not as long as it should be.
    """
    first, seqs, steps, times = packed
    try:
        if any(len(column or b"") != 8 * n for column in values):
            raise ValueError(f"it has not {n} values of each key")
        return Points(
            first + integers.unpack(seqs, n),
            integers.unpack(steps, n),
            integers.unpack(times, n),
            np.frombuffer(b"".join(column or b"" for column in values), "<f8").reshape(len(values), n).T,
        )
    except ValueError as error:
        raise Problem(
            "The ledger holds metrics that cannot be read",
            f"Segment {segment} is damaged: {error}.",
            "Look what else is: workbench ledger check. Restore a copy.",
            code="ledger",
        ) from error


def _unsealed(connection: sqlite3.Connection, run: int, keyset: int, place: int, after: int) -> Iterator[Points]:
    """One key of the tail of a key set, by step."""
    # From the start the index by step is quicker, for an increment the newest rows are; the plus keeps SQLite from the index.
    where = "seq > ? AND +run = ? AND +keyset = ?" if after else "seq > ? AND run = ? AND keyset = ?"
    found = connection.execute(
        f"SELECT seq, step, time, substr(vals, ?, 8) FROM tail WHERE {where} ORDER BY step",
        (1 + 8 * place, after, run, keyset),
    ).fetchall()
    if found:
        rows = unsealed(found)
        yield rows._replace(values=rows.values[:, 0])


def unsealed(rows: Sequence[tuple[int, int, float, bytes]]) -> Points:
    """Rows of one key set from the tail: sequence number, step, seconds, values."""
    seqs, steps, times, values = zip(*rows, strict=True)
    return Points(
        np.array(seqs, np.int64),
        np.array(steps, np.int64),
        np.rint(np.array(times, np.float64) * 1000).astype(np.int64),
        np.frombuffer(b"".join(values), "<f8").reshape(len(rows), -1),
    )
