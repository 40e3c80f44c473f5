"""One SQLite file, many processes: opening it, reading it, and writing it without ever losing or locking.

Rules that the rest of the ledger relies on:
- every write is inside `Ledger.transaction()`: an exclusive flock, then BEGIN IMMEDIATE. A deferred BEGIN fails with "database is
  locked" in spite of a timeout, and SQLite 3.7.0 to 3.51.2 can corrupt a WAL when one connection writes while another checkpoints
  (https://sqlite.org/wal.html#walresetbug), so writes, checkpoints and closing share the lock;
- a connection belongs to one thread; a `Ledger` makes one per thread that uses it;
- no read transaction outlives a call: readers get values, never cursors.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import Problem
from engine.ledger import schema
from engine.ledger.migrate import migrate
from engine.places import private_folder

if TYPE_CHECKING:
    from sqlite_utils.db import Table

Value = str | int | float | bytes | None
CHECKPOINT_EVERY: Final = 10.0  # seconds between moving the WAL into the file


class Ledger:
    """An open ledger. Thread-safe; every thread gets its own connection."""

    def __init__(self, path: Path, *, read_only: bool, immutable: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        self._immutable = immutable
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._guard = threading.RLock()  # flock is per open file: threads of one process need their own order
        self._lock_file = -1
        self._checkpointed = time.monotonic()

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False) -> Ledger:
        """Open `path`, making or migrating it; a file that cannot be written opens read-only (see `read_only`).

        Raises:
            Problem: it is not a ledger, is newer than this program, is damaged, or is not there and cannot be made.
        """
        exists = path.exists()
        if not exists and read_only:
            raise Problem(
                f"There is no ledger at {path}", do="Name one with --ledger, or start a run to make one.", code="ledger"
            )
        if not exists:
            try:
                private_folder(path.parent)
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise Problem(
                    f"Cannot make a ledger at {path}",
                    f"{error.strerror}.",
                    "Set WORKBENCH_HOME to a folder you can write to.",
                    code="ledger",
                ) from error
        writable = (
            not read_only
            and os.access(path, os.W_OK)
            and os.access(path.parent, os.W_OK)
            and not _on_read_only_medium(path)
        )
        # A WAL file on a medium that cannot be written opens only as immutable.
        ledger = cls(
            path, read_only=not writable, immutable=_on_read_only_medium(path) or not os.access(path.parent, os.W_OK)
        )
        ledger._check()
        return ledger

    def _check(self) -> None:
        """Refuse what is not ours or too new; bring an older file up to date."""
        if not self.read_only:
            self._lock_file = os.open(f"{self.path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            ours = self.value("PRAGMA application_id") == schema.APPLICATION_ID
            version = int(str(self.value("PRAGMA user_version")))
            tables = int(str(self.value("SELECT count(*) FROM sqlite_schema")))
        except sqlite3.DatabaseError as error:
            self.close()
            raise Problem(
                f"{self.path} cannot be read as a ledger",
                f"SQLite says: {error}.",
                "If it was damaged, restore a copy; else name another with --ledger.",
                code="ledger",
            ) from error
        if tables and not ours:
            self.close()
            raise Problem(
                f"{self.path} is not a Workbench ledger",
                "It is an SQLite file that something else made.",
                "Name another with --ledger.",
                code="ledger",
            )
        if version > schema.VERSION:
            self.close()
            raise Problem(
                f"{self.path} was written by a newer Workbench",
                f"Its schema is {version}, this program knows {schema.VERSION}.",
                "Update with: pip install -U finetune-workbench",
                code="ledger",
            )
        if version < schema.VERSION:
            if self.read_only:
                self.close()
                raise Problem(
                    f"{self.path} was written by an older Workbench and cannot be brought up to date",
                    "It cannot be written here.",
                    "Copy it to a folder you can write to and open the copy.",
                    code="ledger",
                )
            with self._locked():
                migrate(self._connection(), self.path)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            mode = "mode=ro" if self.read_only else "mode=rw"
            address = f"{self.path.absolute().as_uri()}?{mode}{'&immutable=1' if self._immutable else ''}"
            # isolation_level None: transactions are ours, never sqlite3's own deferred ones.
            connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=5.0, check_same_thread=False)
            connection.execute("PRAGMA busy_timeout = 5000")
            connection.execute("PRAGMA foreign_keys = ON")
            if not self.read_only:
                with self._locked():
                    connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA wal_autocheckpoint = 0")
                connection.execute("PRAGMA synchronous = NORMAL")
            self._local.connection = connection
            with self._guard:
                self._connections.append(connection)
        return connection

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The one lock of all writers: threads here, processes by flock."""
        with self._guard:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A write transaction, committed on leaving and rolled back on an exception. Not to be nested.

        `durable` makes the commit survive a power cut (fsync), for run state, evaluations and checkpoints; without it the commit
        survives the death of any process, which is what metrics need.

        Raises:
            Problem: the ledger is read-only.
            sqlite3.OperationalError: the disk is full or the file went away; nothing was written.
        """
        if self.read_only:
            raise Problem(
                f"{self.path} is open read-only",
                "It cannot be written here.",
                "Copy it to a folder you can write to.",
                code="ledger",
            )
        connection = self._connection()
        with self._locked():
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:  # a full disk may have rolled it back already
                    connection.execute("ROLLBACK")
                raise
            try:
                connection.execute("COMMIT")
            except sqlite3.Error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            if time.monotonic() - self._checkpointed > CHECKPOINT_EVERY:
                self._checkpointed = time.monotonic()
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def rows(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query, read in one short read transaction."""
        return self._connection().execute(sql, values).fetchall()

    def value(self, sql: str, values: Sequence[Value] = ()) -> Value:
        """The first value of the first row; None if there is no row."""
        row = self._connection().execute(sql, values).fetchone()
        return row[0] if row else None

    def version(self) -> int:
        """A number that changes whenever another connection has committed: what a screen polls before it reads again."""
        return int(str(self.value("PRAGMA data_version")))

    def close(self) -> None:
        """Close all connections. The last one to close a WAL file checkpoints it, hence the lock."""
        with self._guard:
            connections, self._connections = self._connections, []
            self._local = threading.local()
            if self._lock_file < 0:
                for connection in connections:
                    connection.close()
                return
            with self._locked():
                for connection in connections:
                    connection.close()
            os.close(self._lock_file)
            self._lock_file = -1


def table(connection: sqlite3.Connection, name: str) -> Table:
    """A table as sqlite-utils sees it, for inserts and upserts inside a transaction of ours.

    Imported here because it costs a few tenths of a second that opening the application should not pay.
    """
    from sqlite_utils import Database

    return Database(connection, execute_plugins=False).table(name)


def _on_read_only_medium(path: Path) -> bool:
    """Whether the file system is mounted read-only. Permission bits say nothing to root; the mount does."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
