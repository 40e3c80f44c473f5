"""Bring a ledger file up to this program's schema, keeping a copy of what was there."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from engine.atomic import sync
from engine.errors import Problem
from engine.ledger import schema


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Run the missing migrations in one transaction. A file that already holds tables is copied beside itself first.

    The caller holds the ledger's lock.

    Raises:
        Problem: the file is not what its version says; it is left as it was.
        sqlite3.Error: the disk is full or failing; likewise.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version >= schema.VERSION:  # another process was quicker
        return
    if version:
        _copy(connection, path.with_name(f"{path.name}.before-{schema.VERSION}"))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in schema.MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR:
            raise Problem(
                f"{path} could not be brought up to date",
                f"It says that its schema is {version}, but SQLite says: {error}.",
                "It is as it was. Something else has changed it: restore a copy, or name another with --ledger.",
                code="ledger",
            ) from error
        raise


def _copy(connection: sqlite3.Connection, copy: Path) -> None:
    """A private copy, whole or not there at all."""
    part = copy.with_name(f"{copy.name}.part")
    part.unlink(missing_ok=True)
    file = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)  # VACUUM INTO takes an empty file
    try:
        connection.execute("VACUUM INTO ?", (str(part),))
        os.fsync(file)
    except BaseException:
        part.unlink()
        raise
    finally:
        os.close(file)
    part.replace(copy)
    sync(copy.parent)
