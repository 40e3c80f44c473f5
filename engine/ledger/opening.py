"""Opening a ledger file: made if it is not there, refused if it is not ours, read-only where it cannot be written."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.errors import Problem
from engine.ledger import schema
from engine.ledger.refusals import in_words
from engine.places import private_folder
from engine.storage import storage_of

BUSY_TIMEOUT: Final = 5.0  # seconds that SQLite waits for programs that do not take our lock
WAL_LIMIT: Final = 16 * 2**20  # bytes that the WAL file shrinks to after a burst
SMALLEST: Final = 512  # bytes of a database, its smallest page; SQLite takes less for a new one


def make(path: Path) -> None:
    """An empty private file at `path`, if there is none.

    Raises:
        Problem: it cannot be made there.
    """
    try:
        private_folder(path.parent)
        with suppress(FileExistsError):  # another process was quicker
            # Exclusive: opening and closing a database behind SQLite's back would drop its locks in this process.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Problem(
            f"Cannot make a ledger at {path}",
            f"{error.strerror}.",
            "Set WORKBENCH_HOME to a folder you can write to.",
            code="ledger",
        ) from error


def writable(path: Path) -> bool:
    """Whether this process may write the file and what SQLite puts beside it (mounts count, also for root).

    Raises:
        Problem: it is a folder or may not be read; or it may be written, but lies on a network file system.
    """
    if path.is_dir():
        raise Problem(f"{path} is a folder, not a ledger", do="Name the file: --ledger FOLDER/ledger.db", code="ledger")
    if not os.access(path, os.R_OK):
        raise Problem(
            f"{path} may not be read by you", do="Ask its owner, or name another with --ledger.", code="ledger"
        )
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return False
    storage = storage_of(path)
    if storage.is_network:
        raise Problem(
            f"{path} is on a network file system ({storage.kind})",
            "SQLite's write-ahead log needs memory that all writers share, which such a disk cannot give.",
            "Set WORKBENCH_HOME to a folder on a local disk; runs may stay on the network disk.",
            code="ledger",
        )
    return True


def version_of(path: Path) -> int:
    """The schema version of the file, 0 for an empty one; nothing is written.

    Raises:
        Problem: it is not a ledger, is newer than this program, or is damaged.
    """
    with in_words(path):
        connection, _ = reader(path)
        try:
            connection.execute("BEGIN")  # one state of the file: another process may be making it
            application, version, tables = (
                int(connection.execute(query).fetchone()[0])
                for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
            )
        finally:
            connection.close()
    if application != schema.APPLICATION_ID and (application or version or tables):
        raise Problem(
            f"{path} is not a Workbench ledger",
            "It is an SQLite file that something else made.",
            "Name another with --ledger.",
            code="ledger",
        )
    if version < 0 or (tables and not version) or (not tables and 0 < path.stat().st_size < SMALLEST):
        raise Problem(
            f"{path} is no whole ledger",
            f"Its schema says version {version}, which is not what is in it: it was cut off, or changed by something else.",
            "Restore a copy, or name another with --ledger.",
            code="ledger",
        )
    if version > schema.VERSION:
        raise Problem(
            f"{path} was written by a newer Workbench",
            f"Its schema is {version}, this program knows {schema.VERSION}.",
            "Update with: pip install -U finetune-workbench",
            code="ledger",
        )
    return version


def reader(path: Path) -> tuple[sqlite3.Connection, bool]:
    """A connection that only reads, and whether it took the file as unchanging.

    A ledger in a place that cannot be written, or on a disk without room for what SQLite puts beside it, opens as it is when a
    live writer's files lie there. Without them it opens as unchanging (SQLite's `immutable`), which is right for one look only:
    keep such a connection for no longer.

    Raises:
        Problem: changes lie beside the file that cannot be read here.
        sqlite3.Error: the file cannot be opened or is damaged.
    """
    connection = _connect(path, "mode=ro")
    try:
        connection.execute("PRAGMA schema_version").fetchone()
        return connection, False
    except sqlite3.OperationalError as error:
        connection.close()
        full = error.sqlite_errorcode == sqlite3.SQLITE_IOERR_SHMSIZE
        if not full and (error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CANTOPEN or os.access(path.parent, os.W_OK)):
            raise
        log = path.with_name(f"{path.name}-wal")
        changes = log.exists() and log.stat().st_size > 0
        if full and changes:
            raise
    if changes:
        raise Problem(
            f"{log} holds changes that cannot be read here",
            "The ledger was not closed before it was put in this folder, which cannot be written.",
            f"Copy {path.name} and {log.name} together to a folder you can write to, and open that copy.",
            code="ledger",
        )
    return _connect(path, "mode=ro&immutable=1"), True


def uri(path: Path) -> str:
    """What names the file to SQLite for reading only, as unchanging where `reader` takes it so.

    Raises as `reader`.
    """
    connection, unchanging = reader(path)
    connection.close()
    return f"{path.as_uri()}?mode=ro{'&immutable=1' if unchanging else ''}"


def writer(path: Path) -> sqlite3.Connection:
    """A connection that writes. The caller holds the write lock, now and whenever the connection is used or closed.

    SQLite moves the WAL into the file by itself after a commit that leaves 1,000 pages (4 MiB) in it, never waiting for
    readers; as all commits are made under the lock, so are these checkpoints.

    Raises:
        Problem: the place cannot have a WAL.
        sqlite3.Error: the file cannot be opened or is damaged.
    """
    connection = _connect(path, "mode=rw")
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        connection.close()
        raise Problem(
            f"{path} cannot have a write-ahead log there",
            f"SQLite keeps journal mode {mode} on this disk.",
            "Set WORKBENCH_HOME to a folder on a local disk.",
            code="ledger",
        )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    return connection


def _connect(path: Path, options: str) -> sqlite3.Connection:
    # isolation_level None: transactions are ours, never sqlite3's own deferred ones. One thread at a time uses a connection,
    # but not always the same.
    return sqlite3.connect(
        f"{path.as_uri()}?{options}", uri=True, isolation_level=None, timeout=BUSY_TIMEOUT, check_same_thread=False
    )
