"""What SQLite does not see to: that the file has the schema's tables and columns, and that its rows can be read as what they are.

A disk that flips a bit in a text, or a program that is not ours, leaves a file that SQLite calls whole.
"""

from __future__ import annotations

import json
import sqlite3
import tomllib
from collections.abc import Callable, Iterator
from typing import Final

from engine.ledger import schema
from engine.ledger.states import State
from engine.ledger.store import Ledger

Columns = frozenset[tuple[str, str]]

COLUMNS: Final = "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
JSON: Final = (
    ("run_document", "settings"),
    ("run_document", "environment"),
    ("run_document", "fingerprints"),
    ("job", "argument"),
    ("job", "places"),
    ("event", "detail"),
    ("evaluation", "scores"),
    ("item", "detail"),
)


def faults(ledger: Ledger, *, profiles: bool = True) -> Iterator[str]:
    """Sentences on what is not as this program writes it, none where all is well. To read all `profiles` takes most of the time.

    Raises:
        Problem: the file cannot be read any further.
    """
    there = frozenset((str(table), str(name)) for table, name in ledger.rows(COLUMNS))
    if gone := _columns_of_schema() - there:
        tables = {table for table, _ in there}
        names = sorted({f"{table}.{name}" if table in tables else table for table, name in gone})
        yield f"there is no {', '.join(names)}"
        return
    for table in ("run", "job"):
        known = ", ".join("?" * len(State))
        (count,) = ledger.rows(f"SELECT count(*) FROM {table} WHERE state NOT IN ({known})", tuple(State))[0]
        if count:
            yield f"rows of {table} with an unknown state: {count:,}"
    for table, name in JSON:
        # SQLite knows no NaN in JSON, which we write: what it refuses is read again.
        doubted = ledger.rows(f"SELECT {name} FROM {table} WHERE NOT json_valid({name})")
        if count := _unreadable(json.loads, doubted):
            yield f"rows of {table} with {name} that are not JSON: {count:,}"
    if profiles and (count := _unreadable(tomllib.loads, ledger.rows("SELECT DISTINCT profile FROM run_document"))):
        yield f"profiles that are not TOML: {count:,}"


def _unreadable(read: Callable[[str], object], rows: list[tuple[object]]) -> int:
    """How many of the texts cannot be read."""
    count = 0
    for (text,) in rows:
        try:
            read(str(text))
        except (ValueError, RecursionError):
            count += 1
    return count


def _columns_of_schema() -> Columns:
    """The (table, column) pairs of a ledger that is made now."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for statements in schema.MIGRATIONS:
            for statement in statements:
                connection.execute(statement)
        return frozenset(connection.execute(COLUMNS))
    finally:
        connection.close()
