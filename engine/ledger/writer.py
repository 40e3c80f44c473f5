"""The thread that writes a run's metrics, so that no disk and no lock ever holds up the training loop.

A log call puts a row in a bounded queue; the thread commits what has gathered. Acknowledged means committed: such a row
outlives the death of the process. A full disk never raises into the loop: the thread keeps trying, and when the queue has
filled meanwhile the oldest rows are dropped and counted. Once writing works again an event tells how long it stood still and how many
rows were lost, also when that is none: curves show such a time only by its absence.

When a segment's worth of rows has gathered in the tail they are sealed, in a transaction of their own: on a disk with hardly any room
left the rows matter more than how they lie.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Mapping
from operator import index
from typing import Final

from engine.errors import Problem
from engine.ledger import events
from engine.ledger.packing import Packer, Row
from engine.ledger.sealing import SEGMENT, seal
from engine.ledger.store import Ledger

log = logging.getLogger(__name__)

QUEUE_BOUND: Final = 4096  # rows; beyond it the caller waits for a commit, or in trouble the oldest are dropped
# Seconds that a batch gathers: what a killed process loses of rows that were not acknowledged yet. A commit takes as long as logging
# hundreds of rows, and screens look a few times a second.
GATHER: Final = 0.25
# Seconds that a caller waits for room, once; a checkpoint of a large log on a slow disk takes some.
PATIENCE: Final = 5.0
RETRY: Final = 1.0  # seconds between attempts in trouble
LOWEST: Final = -(2**63)
HIGHEST: Final = 2**63 - 1  # of what SQLite takes for a step

Queued = tuple[int, int, float, tuple[str, ...], tuple[float, ...]]  # what a `Row` is made of


class Writer:
    """Writes one run's metrics, for any thread. Close it (or use it as a context manager) to write what is queued.

    `acknowledged` is the sequence number of the newest committed row, `dropped` how many rows were lost, `trouble` what is
    wrong at the moment (empty: nothing).
    """

    def __init__(self, ledger: Ledger, run: int) -> None:
        self.acknowledged = 0
        self.dropped = 0
        self.trouble = ""
        self._ledger = ledger
        self._run = run
        self._packer = Packer(run)
        self._logged = 0
        self._queue: deque[Queued] = deque()  # the thread makes rows of it
        self._names: tuple[str, ...] = ()  # of the last call, which are known to be text
        self._gap: tuple[int, int, int] | None = None  # rows lost that no event tells of yet, their first and last step
        self._stands: float | None = None  # since when, by the monotonic clock, writing does not work
        self._unsealed: int | None = None  # rows in the tail; None until counted
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        self._hurry = threading.Event()  # do not wait for a batch to gather
        self._closing = threading.Event()
        self._deadline = float("inf")  # when a writer that is being closed stops trying
        self._thread = threading.Thread(target=self._drain, name="metrics", daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> int:
        """Queue the values of some keys at `step`; returns the row's sequence number.

        It is committed once `acknowledged` has reached that. Takes microseconds; waits (for `PATIENCE` at most, once) only
        while the queue is full. Keys that are logged together should be the same ones each time: every set is stored.

        Raises:
            TypeError: `step` is no whole number, a key no text or a value no number.
            ValueError: `step` does not fit 64 bits, or a key cannot be written as UTF-8.
            OverflowError: a value is a whole number beyond float64.
        """
        names, numbers = tuple(values), tuple(map(float, values.values()))
        step = index(step)
        if not LOWEST <= step <= HIGHEST:
            raise ValueError(f"step {step} does not fit 64 bits")
        if names != self._names:
            "".join(names).encode()  # raises here and not in the thread, where nobody could tell whose error it is
            self._names = names
        now = time.time()
        with self._guard:
            if len(self._queue) >= QUEUE_BOUND:
                self._make_room()
            self._logged += 1
            self._queue.append((self._logged, step, now, names, numbers))
            return self._logged

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until all that was logged is committed; False if that did not happen in `timeout` seconds."""
        with self._guard:
            target = self._logged
            self._hurry.set()
            return self._changed.wait_for(lambda: self.acknowledged >= target, timeout)

    def close(self, timeout: float = 30.0) -> None:
        """Write what is queued and end the thread; what cannot be written within `timeout` seconds is dropped."""
        with self._guard:
            self._deadline = time.monotonic() + timeout
            self._closing.set()
            self._hurry.set()
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make_room(self) -> None:
        """Wait for a commit while there is hope for one, else drop the oldest rows."""
        self._hurry.set()
        hope = not self.trouble and self._thread.is_alive()
        if hope and not self._changed.wait_for(lambda: len(self._queue) < QUEUE_BOUND or self.trouble, PATIENCE):
            self._in_trouble("metrics wait for the ledger, which is slow or held by somebody")
        while len(self._queue) >= QUEUE_BOUND:
            self._drop(self._queue.popleft()[1])

    def _in_trouble(self, why: str) -> None:
        if self._stands is None:
            self._stands = time.monotonic()
            log.warning("metrics are not written: %s", why)
        self.trouble = why

    def _drop(self, step: int) -> None:
        self.dropped += 1
        rows, first, last = self._gap or (0, step, step)
        self._gap = (rows + 1, min(first, step), max(last, step))

    def _drain(self) -> None:
        """The thread: commit batch after batch, and hold on to one that cannot be committed yet. At last all is sealed."""
        while rows := self._batch():
            while not self._commit(rows):
                if time.monotonic() > self._deadline:
                    with self._guard:
                        for step in (*(row.step for row in rows), *(queued[1] for queued in self._queue)):
                            self._drop(step)
                        self._queue.clear()
                    return
                time.sleep(RETRY / 10) if self._closing.is_set() else self._closing.wait(RETRY)
            if self._unsealed is not None and self._unsealed >= SEGMENT:
                self._seal()
        if self._unsealed != 0:
            self._seal()

    def _batch(self) -> list[Row]:
        """The rows that have gathered, a segment's worth at most; none when the writer is closed and all is written."""
        while True:
            # The thread looks by itself: to be woken would cost the caller more than all else that a log call does.
            self._hurry.wait(GATHER)
            with self._guard:
                room = SEGMENT - (self._unsealed or 0)
                rows = [Row._make(self._queue.popleft()) for _ in range(min(len(self._queue), room))]
                if not self._queue and not self._closing.is_set():
                    self._hurry.clear()
                self._changed.notify_all()
            if rows or self._closing.is_set():
                return rows

    def _commit(self, rows: list[Row]) -> bool:
        """Write a batch; False if it should be tried again."""
        with self._guard:
            gap, stands = self._gap, self._stands
        try:
            with self._ledger.transaction() as connection:
                self._packer.write(connection, rows)
                if gap or stands is not None:
                    self._tell(connection, gap, stands)
                if self._unsealed is None:  # what an earlier process left in the tail counts too
                    self._unsealed = self._in_tail(connection) - len(rows)
        except (Problem, sqlite3.Error, OSError) as error:
            self._packer.forget()  # ids made in a transaction that was rolled back are none
            with self._guard:
                self._in_trouble(str(error).partition("\n")[0])
                if isinstance(error, sqlite3.IntegrityError):  # the run was deleted: nothing will ever take these rows
                    for row in rows:
                        self._drop(row.step)
                self._changed.notify_all()
            return isinstance(error, sqlite3.IntegrityError)
        with self._guard:
            self.acknowledged = rows[-1].sequence
            self.trouble = ""
            self._stands = None
            self._unsealed = min((self._unsealed or 0) + len(rows), SEGMENT)
            if self._gap == gap:
                self._gap = None
            elif gap and self._gap:  # more was dropped meanwhile: that is the next gap
                self._gap = (self._gap[0] - gap[0], gap[2], self._gap[2])
            self._changed.notify_all()
        return True

    def _in_tail(self, connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM tail WHERE run = ?", (self._run,)).fetchone()[0])

    def _seal(self) -> None:
        """Seal what is in the tail; where that does not work the rows stay there, as readable, until the next time."""
        self._unsealed = 0
        try:
            with self._ledger.transaction() as connection:
                seal(connection, self._run)
        except (Problem, sqlite3.Error) as error:
            log.warning("metrics stay unsealed: %s", str(error).partition("\n")[0])

    def _tell(self, connection: sqlite3.Connection, gap: tuple[int, int, int] | None, stands: float | None) -> None:
        """An event of a time in which nothing could be written."""
        rows, first, last = gap or (0, None, None)
        seconds = time.monotonic() - stands if stands is not None else 0.0
        why = self.trouble or "the ledger could not be written"
        lost = f"{rows} metric rows between steps {first} and {last} were lost" if rows else "no metrics were lost"
        events.insert(
            connection,
            "gap",
            f"{lost}, for {seconds:.1f} s nothing could be written: {why}",
            run=self._run,
            level="warning",
            detail={"rows": rows, "first_step": first, "last_step": last, "seconds": round(seconds, 1)},
        )
