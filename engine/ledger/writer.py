"""The thread that writes a run's metrics, so that no disk and no lock ever holds up the training loop.

A log call puts a row in a bounded queue; the thread commits what has gathered. Acknowledged means committed: such a row
outlives the death of the process. A full disk never raises into the loop: the thread keeps trying, and when the queue has
filled meanwhile the oldest rows are dropped, counted, and recorded as a gap once writing works again.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from engine.errors import Problem
from engine.ledger import events
from engine.ledger.packing import Packer, Row
from engine.ledger.store import Ledger

QUEUE_BOUND: Final = 4096  # rows; beyond it the caller waits for a commit, or in trouble the oldest are dropped
# Seconds that a batch gathers. A commit takes as long as logging hundreds of rows, and screens look a few times a second.
GATHER: Final = 0.25
PATIENCE: Final = 1.0  # seconds that a caller waits for room, once
RETRY: Final = 1.0  # seconds between attempts in trouble


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
        self._queue: deque[Row] = deque()
        self._gap: tuple[int, int, int] | None = None  # rows lost that no event tells of yet, their first and last step
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        self._hurry = threading.Event()  # do not wait for a batch to gather
        self._closing = threading.Event()
        self._deadline = float("inf")  # when a writer that is being closed stops trying
        self._thread = threading.Thread(target=self._drain, name="metrics", daemon=True)
        self._thread.start()

    def log(self, step: int, values: Mapping[str, float]) -> int:
        """Queue the values of some keys at `step`; returns the row's sequence number.

        It is committed once `acknowledged` has reached that. Takes microseconds; waits (for a second at most, once) only
        while the queue is full. Keys that are logged together should be the same ones each time: every set is stored.
        """
        names, numbers = tuple(values), tuple(map(float, values.values()))
        now = time.time()
        with self._guard:
            if len(self._queue) >= QUEUE_BOUND:
                self._make_room()
            self._logged += 1
            self._queue.append(Row(self._logged, step, now, names, numbers))
            if len(self._queue) == 1:
                self._changed.notify_all()
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
            self.trouble = "metrics wait for the ledger, which somebody holds"
        while len(self._queue) >= QUEUE_BOUND:
            self._drop(self._queue.popleft())

    def _drop(self, row: Row) -> None:
        self.dropped += 1
        rows, first, last = self._gap or (0, row.step, row.step)
        self._gap = (rows + 1, min(first, row.step), max(last, row.step))

    def _drain(self) -> None:
        """The thread: commit batch after batch, and hold on to one that cannot be committed yet."""
        while rows := self._batch():
            while not self._commit(rows):
                if time.monotonic() > self._deadline:
                    with self._guard:
                        for row in (*rows, *self._queue):
                            self._drop(row)
                        self._queue.clear()
                    return
                time.sleep(RETRY / 10) if self._closing.is_set() else self._closing.wait(RETRY)

    def _batch(self) -> list[Row]:
        """The rows that have gathered; none when the writer is closed and all is written."""
        with self._guard:
            self._changed.wait_for(lambda: self._queue or self._closing.is_set())
        self._hurry.wait(GATHER)
        with self._guard:
            rows = list(self._queue)
            self._queue.clear()
            if not self._closing.is_set():
                self._hurry.clear()
            self._changed.notify_all()
        return rows

    def _commit(self, rows: list[Row]) -> bool:
        """Write a batch; False if it should be tried again."""
        with self._guard:
            gap = self._gap
        try:
            with self._ledger.transaction() as connection:
                self._packer.write(connection, rows)
                if gap:
                    self._tell(connection, *gap)
        except (Problem, sqlite3.Error, OSError) as error:
            self._packer.forget()  # ids made in a transaction that was rolled back are none
            with self._guard:
                self.trouble = str(error).partition("\n")[0]
                if isinstance(error, sqlite3.IntegrityError):  # the run was deleted: nothing will ever take these rows
                    for row in rows:
                        self._drop(row)
                self._changed.notify_all()
            return isinstance(error, sqlite3.IntegrityError)
        with self._guard:
            self.acknowledged = rows[-1].sequence
            self.trouble = ""
            if self._gap == gap:
                self._gap = None
            elif gap and self._gap:  # more was dropped meanwhile: that is the next gap
                self._gap = (self._gap[0] - gap[0], gap[2], self._gap[2])
            self._changed.notify_all()
        return True

    def _tell(self, connection: sqlite3.Connection, rows: int, first: int, last: int) -> None:
        events.insert(
            connection,
            "gap",
            f"{rows} metric rows between steps {first} and {last} were lost: {self.trouble or 'the ledger could not be written'}",
            run=self._run,
            level="warning",
            detail={"rows": rows, "first_step": first, "last_step": last},
        )
