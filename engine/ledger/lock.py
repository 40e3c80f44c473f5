"""One writer at a time: a mutex among the threads of this process, an flock among processes."""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from pathlib import Path
from typing import Final

from engine.errors import Problem

PATIENCE: Final = 30.0  # seconds; a commit takes under a millisecond, so whoever holds it longer has stopped


class WriteLock:
    """A lock to be used as a context manager, not re-entrant; `mine` says whether the calling thread holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.Lock()  # flock belongs to the open file, which all threads here share
        self._owner = 0
        self._file = -1

    @property
    def mine(self) -> bool:
        """Whether the calling thread holds the lock."""
        return self._owner == threading.get_ident()

    def __enter__(self) -> None:
        """Take the lock.

        Raises:
            Problem: somebody has held it for `PATIENCE` seconds, or its file cannot be made.
            RuntimeError: the calling thread holds it already.
        """
        if self.mine:
            raise RuntimeError("this thread is inside a transaction already: transactions do not nest")
        deadline = time.monotonic() + PATIENCE
        if not self._mutex.acquire(timeout=PATIENCE):
            raise self._busy()
        try:
            self._take(deadline)
        except BaseException:
            self._mutex.release()
            raise
        self._owner = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._owner = 0
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._mutex.release()

    def _take(self, deadline: float) -> None:
        if self._file < 0:
            try:
                self._file = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise Problem(
                    f"Cannot open {self.path}", f"{error.strerror}.", "Check that folder and its space.", code="ledger"
                ) from error
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._busy() from None
                time.sleep(random.uniform(0.0002, 0.004))  # asking again leaves room to give up; flock itself cannot

    def _busy(self) -> Problem:
        return Problem(
            f"Another process has held {self.path} for {PATIENCE:.0f} s",
            "It has probably been stopped (Ctrl-Z) in the middle of writing.",
            f"See who it is: fuser {self.path}",
            code="busy",
        )

    def close(self) -> None:
        """Close the file; taking the lock opens it again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def forget(self) -> None:
        """In a forked child: let go of what the parent holds, without unlocking it.

        Closing the child's descriptor leaves the parent's lock alone, and keeps a child that outlives its parent from
        holding the lock for ever.
        """
        self.close()
        self._mutex = threading.Lock()
        self._owner = 0
