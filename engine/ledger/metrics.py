"""Metrics: written through a thread that never holds up the training loop, read back as NumPy columns.

A log call is one packed row; acknowledged means committed. Replayed steps (after a resume) replace what stood there.
"""

from __future__ import annotations

import math
import queue
import sqlite3
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.ledger.store import Ledger

QUEUE_BOUND: Final = 4096  # rows; beyond it the caller waits for a commit rather than memory growing
DRAIN_EVERY: Final = 0.05  # seconds


@dataclass(frozen=True)
class Curve:
    """One metric of a run by step: equal-length columns; NaN and infinities are kept. `seq` is where an increment goes on."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    times: NDArray[np.float64]
    seq: int


@dataclass(frozen=True)
class _Row:
    sequence: int
    step: int
    time: float
    names: tuple[str, ...]
    values: tuple[float, ...]


class Writer:
    """Writes one run's metrics from any thread. Close it (or use it as a context manager) to write what is queued.

    A full disk or a lock never raises into the loop: rows stay queued up to the bound, `trouble` says what is wrong, and once the
    bound is reached the oldest are dropped and counted in `dropped`.
    """

    def __init__(self, ledger: Ledger, run: int) -> None:
        self._ledger = ledger
        self._run = run
        self._queue: queue.Queue[_Row | None] = queue.Queue(QUEUE_BOUND)
        self._logged = 0
        self._keys: dict[str, int] = {}
        self._keysets: dict[tuple[str, ...], int] = {}
        self._committed = threading.Condition()
        self.acknowledged = 0
        self.dropped = 0
        self.trouble = ""
        self._thread = threading.Thread(target=self._drain, name="metrics", daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> int:
        """Queue one row; returns its sequence number, acknowledged once `acknowledged` has reached it."""
        self._logged += 1
        self._queue.put(
            _Row(self._logged, step, time.time(), tuple(values), tuple(float(value) for value in values.values()))
        )
        return self._logged

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that was logged is committed; False if that did not happen in `timeout` seconds."""
        target = self._logged
        with self._committed:
            return self._committed.wait_for(lambda: self.acknowledged >= target, timeout)

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join(timeout=30)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drain(self) -> None:
        held: list[_Row] = []
        closing = False
        while not closing or held:
            try:
                row = self._queue.get(timeout=1.0 if held else None)
                while row is not None:
                    held.append(row)
                    row = self._queue.get_nowait()
                closing = True
            except queue.Empty:
                pass
            if not held:
                continue
            try:
                self._commit(held)
                self.trouble = ""
            except (sqlite3.Error, OSError) as error:
                self.trouble = f"metrics cannot be written: {error}"
                if closing:
                    self.dropped += len(held)
                    return
                surplus = len(held) - QUEUE_BOUND
                if surplus > 0:
                    self.dropped += surplus
                    del held[:surplus]
                time.sleep(1.0)
                continue
            with self._committed:
                self.acknowledged = held[-1].sequence
                self._committed.notify_all()
            held = []
            time.sleep(DRAIN_EVERY)  # let a batch gather

    def _commit(self, rows: list[_Row]) -> None:
        try:
            with self._ledger.transaction() as connection:
                for row in rows:
                    keyset = self._keyset(connection, row.names)
                    connection.execute(
                        "INSERT OR REPLACE INTO tail (run, keyset, step, time, vals) VALUES (?, ?, ?, ?, ?)",
                        (self._run, keyset, row.step, row.time, np.array(row.values, "<f8").tobytes()),
                    )
                self._summarise(connection, rows)
        except BaseException:
            self._keys.clear()  # ids made in a transaction that was rolled back
            self._keysets.clear()
            raise

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

    def _summarise(self, connection: sqlite3.Connection, rows: list[_Row]) -> None:
        """Bring `series` up to date: incrementally for new steps, from all points where a step was replayed."""
        added: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            for name, value in zip(row.names, row.values, strict=True):
                added.setdefault(name, []).append((row.step, value))
        for name, points in added.items():
            key = self._keys[name]
            stood = connection.execute(
                "SELECT n, gaps, last, last_step, min, min_step, max, max_step FROM series WHERE run = ? AND key = ?",
                (self._run, key),
            ).fetchone()
            steps = [step for step, _ in points]
            grows = all(a < b for a, b in pairwise(steps)) and (stood is None or steps[0] > stood[3])
            if not grows:
                curve = _points(connection, self._run, key)
                points, stood = list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True)), None
            summary = _summary(points, stood)
            connection.execute(
                "INSERT OR REPLACE INTO series (run, key, n, gaps, last, last_step, min, min_step, max, max_step) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (self._run, key, *summary),
            )


Totals = tuple[int, int, float | None, int, float | None, int | None, float | None, int | None]


def _summary(points: list[tuple[int, float]], stood: Totals | None) -> Totals:
    n, gaps, last, last_step, low, low_step, high, high_step = stood or (0, 0, None, 0, None, None, None, None)
    for step, value in points:
        n += 1
        last, last_step = value if math.isfinite(value) else None, step
        if not math.isfinite(value):
            gaps += 1
            continue
        if low is None or value < low:
            low, low_step = value, step
        if high is None or value > high:
            high, high_step = value, step
    return n, gaps, last, last_step, low, low_step, high, high_step


def _points(connection: sqlite3.Connection, run: int, key: int, after: int = 0) -> Curve:
    places = {
        keyset: keys.split(",").index(str(key))
        for keyset, keys in connection.execute("SELECT id, keys FROM keyset")
        if str(key) in keys.split(",")
    }
    if not places:
        return Curve(np.empty(0, np.int64), np.empty(0), np.empty(0), after)
    marks = ", ".join("?" * len(places))
    rows = connection.execute(
        f"SELECT seq, keyset, step, time, vals FROM tail WHERE run = ? AND keyset IN ({marks}) AND seq > ? ORDER BY step, seq",
        (run, *places, after),
    ).fetchall()
    values = np.array(
        [np.frombuffer(vals, "<f8", 1, places[keyset] * 8)[0] for _, keyset, _, _, vals in rows], np.float64
    )
    steps = np.array([row[2] for row in rows], np.int64)
    return Curve(
        steps, values, np.array([row[3] for row in rows], np.float64), max((row[0] for row in rows), default=after)
    )


def keys(ledger: Ledger, run: int) -> list[str]:
    """The names of all metrics that the run has."""
    return [
        str(row[0])
        for row in ledger.rows(
            "SELECT k.name FROM series s JOIN key k ON k.id = s.key WHERE s.run = ? ORDER BY k.name", (run,)
        )
    ]


def curve(ledger: Ledger, run: int, name: str, *, after: int = 0) -> Curve:
    """A metric's points by step, or only those committed after `seq` `after`; replayed steps come again with a new seq."""
    key = ledger.value("SELECT id FROM key WHERE name = ?", (name,))
    if key is None:
        return Curve(np.empty(0, np.int64), np.empty(0), np.empty(0), after)
    return _points(ledger._connection(), run, int(str(key)), after)
