"""Take rows over from the ledger beside this one, as `engine.ledger.merging` decided.

Row ids mean nothing outside their file: uids and names stand for runs, jobs and metrics, and sequence numbers are moved behind our own, so
that whoever follows a run sees what was taken over as new. Columns are those that both files have, being of one version.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from engine.ledger.standing import FOLLOWS, SAID, TRAINING, columns

CHILDREN: Final = ("run_document", "job", "event", "orders", "checkpoint", "artifact", "series", "tail", "segment")
"""What training made of a run, a table each, in an order in which rows find what they refer to. `packed` goes with its segment."""


def new_runs(connection: sqlite3.Connection, uids: Collection[str]) -> None:
    """Add runs that are not here yet, whole."""
    if not uids:
        return
    shown = ", ".join(name for name in columns(connection, "run") if name not in ("id", "changed"))
    connection.execute(
        f"INSERT INTO main.run ({shown}) SELECT {shown} FROM other.run"
        " WHERE uid IN (SELECT value FROM json_each(?)) ORDER BY created, uid",
        (json.dumps(list(uids)),),
    )
    pairs = dict(
        connection.execute(
            "SELECT x.id, r.id FROM other.run x JOIN main.run r ON r.uid = x.uid WHERE x.uid IN (SELECT value FROM json_each(?))",
            (json.dumps(list(uids)),),
        )
    )
    with _taken(connection, pairs):
        _take_children(connection)
        for table in ("tag", "said"):
            _take(connection, table, {"run": "t.ours"}, _OF_RUN)


def training_part(connection: sqlite3.Connection, pairs: Mapping[int, int]) -> None:
    """Replace all that training made of runs here by the other ledger's; `pairs` are its row ids and ours. Folders stay."""
    if not pairs:
        return
    own = ("id", "uid", "folder", "changed", *SAID, *FOLLOWS)
    made = [name for name in columns(connection, "run") if name not in own]
    with _taken(connection, pairs):
        _update(connection, made)
        for table in ("event", *CHILDREN):  # events first: they are known by their job
            which = TRAINING.get(table, "1").format("main")
            connection.execute(f"DELETE FROM main.{table} WHERE run IN (SELECT ours FROM temp.taken) AND {which}")
        _take_children(connection)


def people_part(connection: sqlite3.Connection, what: str, pairs: Mapping[int, int]) -> None:
    """Replace what was said of runs here by what was said there; `what` is one of `SAID`."""
    if not pairs:
        return
    with _taken(connection, pairs):
        if what == "tags":
            connection.execute("DELETE FROM main.tag WHERE run IN (SELECT ours FROM temp.taken)")
            _take(connection, "tag", {"run": "t.ours"}, _OF_RUN)
        else:
            _update(connection, (what,))
        connection.execute("DELETE FROM main.said WHERE what = ? AND run IN (SELECT ours FROM temp.taken)", (what,))
        take(connection, "said", {"run": "t.ours"}, f"{_OF_RUN} WHERE x.what = ?", (what,))


JOB: Final = "(SELECT id FROM main.job WHERE uid = (SELECT uid FROM other.job WHERE id = x.job))"
"""The job here that is the other ledger's job of a row `x`."""
_OF_RUN: Final = "JOIN temp.taken t ON t.theirs = x.run"


@contextmanager
def _taken(connection: sqlite3.Connection, pairs: Mapping[int, int]) -> Iterator[None]:
    """The runs that are taken over, for queries to join: in `temp.taken`, as row ids there and here."""
    connection.execute("CREATE TEMP TABLE taken (theirs INTEGER PRIMARY KEY, ours INTEGER NOT NULL UNIQUE)")
    connection.executemany("INSERT INTO temp.taken VALUES (?, ?)", pairs.items())
    try:
        yield
    finally:
        if connection.in_transaction:  # else it is gone with the transaction
            connection.execute("DROP TABLE temp.taken")


def _update(connection: sqlite3.Connection, names: Collection[str]) -> None:
    values = ", ".join(f"x.{name}" for name in names)
    connection.execute(
        f"UPDATE main.run SET ({', '.join(names)}) ="
        f" (SELECT {values} FROM other.run x JOIN temp.taken t ON t.theirs = x.id WHERE t.ours = run.id)"
        " WHERE id IN (SELECT ours FROM temp.taken)"
    )


def take(
    connection: sqlite3.Connection, table: str, changed: Mapping[str, str], rest: str, values: Sequence[str] = ()
) -> None:
    """Insert the other ledger's rows `x` of a table, those that the `rest` of the query leaves.

    `changed` are expressions for columns that are not to be the same here; a column with an empty one is left to SQLite to number.
    """
    names = [name for name in columns(connection, table) if changed.get(name) != ""]
    cells = ", ".join(changed.get(name, f"x.{name}") for name in names)
    connection.execute(
        f"INSERT INTO main.{table} ({', '.join(names)}) SELECT {cells} FROM other.{table} x {rest}", values
    )


def _take(connection: sqlite3.Connection, table: str, changed: Mapping[str, str], joins: str, order: str = "1") -> None:
    """As `take`, rows that `joins` leaves and that are of training."""
    take(connection, table, changed, f"{joins} WHERE {TRAINING.get(table, '1').format('other')} ORDER BY {order}")


def _take_children(connection: sqlite3.Connection) -> None:
    segments = int(connection.execute("SELECT coalesce(max(id), 0) FROM main.segment").fetchone()[0])
    newest = connection.execute("SELECT seq FROM main.sqlite_sequence WHERE name = 'tail'").fetchone()
    behind = int(newest[0]) if newest else 0
    key = "(SELECT id FROM main.key WHERE name = (SELECT name FROM other.key WHERE id = x.key))"
    keysets = f"{_OF_RUN} JOIN temp.same_keyset k ON k.theirs = x.keyset"
    with _same_keysets(connection):
        for table in ("run_document", "orders", "checkpoint", "artifact", "job"):
            order = "x.run" if table == "run_document" else "x.id"
            _take(connection, table, {"id": "", "run": "t.ours"}, _OF_RUN, order)
        _take(connection, "event", {"id": "", "run": "t.ours", "job": JOB}, _OF_RUN, "x.id")
        _take(connection, "series", {"run": "t.ours", "key": key}, _OF_RUN)
        tail = {"seq": f"x.seq + {behind}", "run": "t.ours", "keyset": "k.ours"}
        _take(connection, "tail", tail, keysets, "x.seq")
        moved = {name: f"x.{name} + {behind}" for name in ("first_seq", "last_seq")}
        _take(
            connection,
            "segment",
            {"id": f"x.id + {segments}", "run": "t.ours", "keyset": "k.ours", **moved},
            keysets,
            "x.id",
        )
        packed = "JOIN other.segment s ON s.id = x.segment JOIN temp.taken t ON t.theirs = s.run"
        _take(connection, "packed", {"id": "", "segment": f"x.segment + {segments}", "key": key}, packed, "x.id")
    _move_sequence(connection)


def _move_sequence(connection: sqlite3.Connection) -> None:
    """Rows that are logged from now on get higher sequence numbers than those that were taken over already sealed."""
    sealed = "(SELECT coalesce(max(last_seq), 0) FROM main.segment)"
    moved = connection.execute(f"UPDATE main.sqlite_sequence SET seq = max(seq, {sealed}) WHERE name = 'tail'")
    if not moved.rowcount:
        connection.execute(f"INSERT INTO main.sqlite_sequence (name, seq) VALUES ('tail', {sealed})")


@contextmanager
def _same_keysets(connection: sqlite3.Connection) -> Iterator[None]:
    """Make the metrics' names and sets of the taken runs known here; `temp.same_keyset` says which set is which."""
    connection.execute("CREATE TEMP TABLE same_keyset (theirs INTEGER PRIMARY KEY, ours INTEGER NOT NULL)")
    names = dict(connection.execute("SELECT id, name FROM other.key"))
    connection.execute(
        f"INSERT OR IGNORE INTO main.key (name) SELECT name FROM other.key WHERE id IN (SELECT x.key FROM other.series x {_OF_RUN})"
    )
    used = connection.execute(
        f"SELECT id, keys FROM other.keyset WHERE id IN (SELECT x.keyset FROM other.tail x {_OF_RUN}"
        f" UNION SELECT x.keyset FROM other.segment x {_OF_RUN})"
    ).fetchall()
    for theirs, keys in used:
        own = [_id(connection, "key", "name", names[int(key)]) for key in keys.split(",")]
        ours = _id(connection, "keyset", "keys", ",".join(map(str, own)))
        connection.execute("INSERT INTO temp.same_keyset VALUES (?, ?)", (theirs, ours))
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("DROP TABLE temp.same_keyset")


def _id(connection: sqlite3.Connection, table: str, column: str, value: str) -> int:
    connection.execute(f"INSERT OR IGNORE INTO main.{table} ({column}) VALUES (?)", (value,))
    return int(connection.execute(f"SELECT id FROM main.{table} WHERE {column} = ?", (value,)).fetchone()[0])
