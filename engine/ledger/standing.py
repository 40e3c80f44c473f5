"""How a ledger's copy of a run stands against another ledger's copy of it: see `engine.ledger.merging` for the rule.

All queries name the ledger that they look at: `main`, or `other` for the one beside it.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

PLAIN: Final = (
    2  # the newest version of marshal's format in which equal values are equal bytes, whoever else holds them
)
SAID: Final = ("called", "note", "tags", "archived", "deleted", "chosen")
"""What people say of a run; all but the tags are columns of its row."""
FOLLOWS: Final = ("name", "baseline")  # columns that follow from what was said of all runs

Where = Literal["main", "other"]


Said = Mapping[str, tuple[float, str]]
"""What people said of a run: for each of `SAID` when that was, 0 for never, and what it was, as text. The higher one counts.
"""


class Copy(NamedTuple):
    """One ledger's copy of a run: its row, how far its training is (`far`: the higher), what was said of it, its training jobs."""

    id: int
    folder: str
    far: tuple[float, ...]
    said: Said
    jobs: frozenset[str]


class Verdict(NamedTuple):
    """What is taken of the other ledger's copy of a run: its training, which words; where its files are; what is lost."""

    ahead: bool
    said: frozenset[str]
    folder: str
    conflict: str


def judged(here: Copy, there: Copy, content: tuple[bytes, bytes], *, at_work: bool) -> Verdict:
    """Ours against theirs; `content` are the digests of both, equally empty where they are not alike in how far they are.

    `at_work` says that a job writes to ours, whose training then stays.
    """
    ahead = (there.far, content[1]) > (here.far, content[0])
    conflict = ""
    if ahead and at_work:
        ahead = False
        conflict = "it is at work here; merge again when it has ended"
    elif here.jobs - there.jobs and there.jobs - here.jobs:
        conflict = f"it went on in both ledgers; {'the other' if ahead else 'this'} ledger's history is kept"
    same = here.far == there.far and content[0] == content[1]
    said = frozenset(what for what in SAID if there.said[what] > here.said[what])
    return Verdict(ahead, said, _folder(here.folder, there.folder, ahead=ahead, same=same), conflict)


def _folder(here: str, there: str, *, ahead: bool, same: bool) -> str:
    """Where a run's files are: where they are on this machine, else where the further copy has them."""
    if here == there or Path(here).is_dir():
        return here
    if ahead or Path(there).is_dir():
        return there
    return max(here, there) if same else here


TRAINING: Final = {
    "job": "kind = 'train'",
    "event": "(job IS NULL OR (SELECT kind FROM {}.job WHERE id = job) = 'train')",
    "artifact": "kind <> 'export'",
}
"""Which rows are part of a run's training; the others are those of evaluations and exports, which `gathering` gathers."""


def copies(connection: sqlite3.Connection, where: Where, uids: Collection[str]) -> dict[str, Copy]:
    """The copies of these runs that the ledger has."""
    wanted = (json.dumps(list(uids)),)
    chosen = f"SELECT id FROM {where}.run WHERE uid IN (SELECT value FROM json_each(?))"
    tags = _gathered(
        connection.execute(f"SELECT run, name FROM {where}.tag WHERE run IN ({chosen}) ORDER BY name", wanted)
    )
    jobs = _gathered(
        connection.execute(f"SELECT run, uid FROM {where}.job WHERE kind = 'train' AND run IN ({chosen})", wanted)
    )
    times = {
        (run, what): float(when)
        for run, what, when in connection.execute(
            f"SELECT run, what, time FROM {where}.said WHERE run IN ({chosen})", wanted
        )
    }
    rows = connection.execute(
        f"""
        SELECT uid, id, folder, called, note, archived, deleted, chosen,
            (SELECT coalesce(sum(n), 0) FROM {where}.series WHERE run = r.id),
            (SELECT coalesce(max(heartbeat), 0) FROM {where}.job WHERE run = r.id AND kind = 'train'),
            (SELECT count(*) FROM {where}.event WHERE run = r.id AND {TRAINING["event"].format(where)})
        FROM {where}.run r WHERE id IN ({chosen})
        """,
        wanted,
    )
    found = {}
    for uid, run, folder, called, note, archived, deleted, chosen, points, heartbeat, events in rows:
        words = (called, note, json.dumps(tags.get(run, [])), str(archived or ""), str(deleted or ""), str(chosen))
        said = {what: (times.get((run, what), 0.0), word) for what, word in zip(SAID, words, strict=True)}
        own = frozenset(jobs.get(run, ()))
        found[str(uid)] = Copy(run, folder, (len(own), points, heartbeat, events), said, own)
    return found


def _gathered(rows: Iterable[tuple[int, str]]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for run, word in rows:
        found.setdefault(run, []).append(word)
    return found


# What may differ between two copies of the same: row ids, sequence numbers, and what people say.
_OWN: Final = frozenset(["id", "run", "folder", "seq", "first_seq", "last_seq", "segment", "changed"])
_ORDER: Final = {
    "run": "id",
    "run_document": "run",
    "series": "(SELECT name FROM {}.key WHERE id = key)",
    "tail": "seq",
}


def digests(connection: sqlite3.Connection, where: Where, runs: Collection[int]) -> dict[int, bytes]:
    """By row id, a hash of all that training made of these runs. Rows of the same content hash alike, whatever their ids are."""
    hashes = {run: hashlib.sha256() for run in runs}
    wanted = (json.dumps(list(runs)),)
    for table in (
        "run",
        "run_document",
        "job",
        "series",
        "event",
        "orders",
        "checkpoint",
        "artifact",
        "tail",
        "segment",
    ):
        owner = "id" if table == "run" else "run"
        for run, *cells in connection.execute(
            f"SELECT {owner}, {', '.join(_portable(connection, where, table))} FROM {where}.{table}"
            f" WHERE {owner} IN (SELECT value FROM json_each(?)) AND {TRAINING.get(table, '1').format(where)}"
            f" ORDER BY {owner}, {_ORDER.get(table, 'id').format(where)}",
            wanted,
        ):
            hashes[run].update(marshal.dumps((table, cells), PLAIN))
    for run, *cells in connection.execute(
        f"SELECT s.run, (SELECT name FROM {where}.key WHERE id = p.key), p.vals"
        f" FROM {where}.segment s JOIN {where}.packed p ON p.segment = s.id"
        " WHERE s.run IN (SELECT value FROM json_each(?)) ORDER BY s.run, s.id, 2",
        wanted,
    ):
        hashes[run].update(marshal.dumps(cells, PLAIN))
    return {run: each.digest() for run, each in hashes.items()}


def _portable(connection: sqlite3.Connection, where: Where, table: str) -> Iterator[str]:
    """A table's columns, with names in place of ids."""
    for column in columns(connection, table):
        if column in _OWN or (table == "run" and column in (*SAID, *FOLLOWS)):
            continue
        match column:
            case "key":
                yield f"(SELECT name FROM {where}.key WHERE id = key)"
            case "keyset":
                yield (
                    f"(SELECT json_group_array(name) FROM (SELECT (SELECT name FROM {where}.key WHERE id = value) AS name"
                    f" FROM json_each('[' || (SELECT keys FROM {where}.keyset WHERE id = keyset) || ']')))"
                )
            case "job":
                yield f"(SELECT uid FROM {where}.job WHERE id = job)"
            case _:
                yield column


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """The names of a table's columns."""
    return [str(row[0]) for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
