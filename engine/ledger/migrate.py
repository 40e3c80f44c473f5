"""Bring a ledger file up to this program's schema, keeping a copy of what was there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from engine.ledger import schema


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Run the missing migrations in one transaction. A file that already holds tables is copied beside itself first.

    The caller holds the ledger's lock.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version >= schema.VERSION:  # another process was quicker
        return
    if version:
        copy = path.with_name(f"{path.name}.before-{schema.VERSION}")
        if not copy.exists():
            connection.execute("VACUUM INTO ?", (str(copy),))
            copy.chmod(0o600)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in schema.MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
