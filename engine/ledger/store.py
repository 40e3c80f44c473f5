"""One SQLite file, many processes and threads: reading it, and writing it without ever losing or locking.

Rules that the rest of the ledger relies on:
- every write is inside `Ledger.transaction()`: the write lock (`lock.py`), then BEGIN IMMEDIATE. A deferred BEGIN fails with
  "database is locked" in spite of a timeout, and SQLite 3.7.0 to 3.51.2 can corrupt a WAL when one connection writes while
  another checkpoints (https://sqlite.org/wal.html#walresetbug), so writing, checkpoints and closing share the lock;
- a ledger has one connection that writes and a few that read, lent to one thread at a time, however many threads come and go;
- no read transaction outlives a call: readers get values, never cursors, so that the WAL can always be moved into the file;
- connections do not cross a fork: the child makes its own.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import Problem
from engine.ledger import opening, schema
from engine.ledger.lock import WriteLock
from engine.ledger.migrate import migrate
from engine.ledger.refusals import in_words

if TYPE_CHECKING:
    from sqlite_utils.db import Table

Value = str | int | float | bytes | None
IDLE_READERS: Final = 4  # connections kept for the next reader


class Ledger:
    """An open ledger, for any thread. Close it, or use it as a context manager."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Use `Ledger.open`."""
        self.path = path
        self.read_only = read_only
        self._lock = WriteLock(path.with_name(f"{path.name}.lock"))
        self._closed = False
        self._writer: sqlite3.Connection | None = None
        self._durable = False  # what the writer's `synchronous` is set to
        self._readers: list[sqlite3.Connection] = []  # idle ones
        self._watch: sqlite3.Connection | None = None
        self._watching = threading.Lock()
        _OPEN.add(self)
        for stack in _CLOSING[-1:]:
            stack.callback(self.close)

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Ledger:
        """Open `path`, making it or bringing it up to date; one that cannot be written opens read-only (see `read_only`).

        Raises:
            Problem: it is not a ledger, is newer than this program, is damaged, or is not there and cannot be made.
        """
        path = path.expanduser().resolve()  # one file, one lock, whatever links lead to it
        if not path.exists():
            if read_only:
                raise Problem(
                    f"There is no ledger at {path}",
                    do="Name one with --ledger, or start a run to make one.",
                    code="ledger",
                )
            opening.make(path)
        can_write = opening.writable(path)
        version = opening.version_of(path)
        ledger = cls(path, read_only=read_only or not can_write)
        if version < schema.VERSION:
            if ledger.read_only:
                raise Problem(
                    f"{path} {'was written by an older Workbench' if version else 'is empty'}",
                    "It cannot be brought up to date here, because it may not be written.",
                    "Copy it to a folder you can write to and open the copy.",
                    code="ledger",
                )
            try:
                with in_words(path), ledger._lock:
                    migrate(ledger._writing(), path)
            except BaseException:
                ledger.close()
                raise
        return ledger

    def check_writable(self) -> None:
        """For who would have somebody type or wait first.

        Raises:
            Problem: it is open read-only.
        """
        if self.read_only:
            raise Problem(
                f"{self.path} is open read-only",
                "It may not be written here.",
                "Copy it to a folder you can write to and open the copy.",
                code="ledger",
            )

    @contextmanager
    def transaction(self, *, durable: bool = False, beside: str = "") -> Iterator[sqlite3.Connection]:
        """A write transaction, committed on leaving and rolled back on an exception.

        `durable` makes the commit survive a power cut (fsync), for run state, evaluations and checkpoints; without it the
        commit survives the death of any process, which is what metrics need. Inside it this thread's reads see its writes.
        `beside` is the URI of a second file (`opening.uri`) that queries find under the name `other`, to read from only.

        Raises:
            Problem: the ledger is read-only or closed, the disk is full or failing (code `disk`), somebody holds the ledger
                (code `busy`); nothing was written.
            RuntimeError: this thread is inside a transaction already; they do not nest.
        """
        self.check_writable()
        with in_words(self.path), self._lock:
            connection = self._writing()
            if durable is not self._durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            if beside:  # which SQLite does not do inside a transaction
                connection.execute("ATTACH ? AS other", (beside,))
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have rolled it back already
                    connection.execute("ROLLBACK")
                raise
            finally:
                if beside:
                    connection.execute("DETACH other")

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query, read in one short read transaction.

        Raises:
            Problem: the ledger is closed, damaged or can no longer be read.
        """
        with in_words(self.path), self._reading() as connection:
            return connection.execute(sql, values).fetchall()

    def value(self, sql: str, values: Sequence[Value] = ()) -> Value:
        """The first value of the first row; None if there is no row. Raises as `rows`."""
        with in_words(self.path), self._reading() as connection:
            row = connection.execute(sql, values).fetchone()
            return row[0] if row else None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the ledger for several queries. Keep it short: while it lasts, the WAL cannot shrink.

        Raises:
            Problem: as `rows`.
        """
        with in_words(self.path), self._reading() as connection:
            if connection.in_transaction:  # this thread's own
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def version(self) -> int:
        """A number that changes whenever anybody has committed, this process included: what a screen polls.

        Raises:
            Problem: as `rows`.
        """
        with in_words(self.path), self._watching:  # data_version means something on one connection only
            if self._closed:
                raise self._gone()
            if self._watch is None:
                connection, unchanging = opening.reader(self.path)
                if unchanging:
                    connection.close()
                    return self.path.stat().st_mtime_ns
                self._watch = connection
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Move the WAL into the file, so that a copy of the file has all, and close. Closing twice is harmless.

        The last process to close leaves one file, whoever wrote it.

        Raises:
            Problem: somebody holds the ledger and will not let go.
        """
        if self._closed:
            return
        self._closed = True
        with suppress(IndexError):  # another thread may take the last one
            while True:
                self._readers.pop().close()
        with self._watching:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        log = self.path.with_name(f"{self.path.name}-wal")
        if self._writer is not None or (not self.read_only and log.exists()):
            # Only a connection that may write can move the WAL, so one is made where this process has only read; then
            # nothing of its own is at stake if that does not work.
            with suppress(*(() if self._writer else (Problem,))), in_words(self.path), self._lock:
                writer, self._writer = self._writer or opening.writer(self.path), None
                with suppress(sqlite3.Error):  # on a full disk it stays in the WAL, where it is safe as well
                    writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
                writer.close()
        self._lock.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _writing(self) -> sqlite3.Connection:
        if self._closed:
            raise self._gone()
        if self._writer is None:
            self._writer = opening.writer(self.path)
            self._durable = False
        return self._writer

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread alone: the writer inside its own transaction, else an idle or a new one."""
        if self._lock.mine and self._writer is not None:
            yield self._writer
            return
        if self._closed:
            raise self._gone()
        unchanging = False
        try:
            connection = self._readers.pop()
        except IndexError:
            connection, unchanging = opening.reader(self.path)
        try:
            yield connection
        finally:
            if self._closed or unchanging or len(self._readers) >= IDLE_READERS:
                connection.close()
            else:
                self._readers.append(connection)

    def _gone(self) -> Problem:
        return Problem(f"{self.path} has been closed", code="ledger")

    def _start_over(self) -> None:
        """In a forked child: leave the parent's connections alone and make new ones when they are needed."""
        _INHERITED.extend(filter(None, (self._writer, self._watch, *self._readers)))
        self._writer = self._watch = None
        self._readers = []
        self._watching = threading.Lock()
        self._lock.forget()


_OPEN: Final[weakref.WeakSet[Ledger]] = weakref.WeakSet()
_CLOSING: Final[list[ExitStack]] = []
_INHERITED: Final[list[sqlite3.Connection]] = []  # kept: closing them in the child would touch the parent's file


@contextmanager
def closing() -> Iterator[None]:
    """Close whatever ledgers are opened inside, at the end of a command."""
    with ExitStack() as stack:
        _CLOSING.append(stack)
        try:
            yield
        finally:
            _CLOSING.remove(stack)


def _in_child() -> None:
    for ledger in list(_OPEN):
        ledger._start_over()


os.register_at_fork(after_in_child=_in_child)


def table(connection: sqlite3.Connection, name: str) -> Table:
    """A table as sqlite-utils sees it, for inserts and upserts inside a transaction of ours.

    Imported here because it costs a few tenths of a second that opening the application should not pay.
    """
    from sqlite_utils import Database

    return Database(connection, execute_plugins=False).table(name)
