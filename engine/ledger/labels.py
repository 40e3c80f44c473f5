"""What people say of runs: name, note, tags, the one that others are held against, and what they want out of sight.

Each word is kept with its time (`say`), so that of two copies of a run the newer one counts when ledgers are merged.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from typing import Final

from engine.errors import Problem
from engine.ledger import runs
from engine.ledger.runs import Run
from engine.ledger.store import Ledger, Value

LONGEST: Final = 64  # characters of a tag
# A run that was removed for good meanwhile gets none.
_TAGGED: Final = "INSERT OR IGNORE INTO tag (run, name) SELECT id, ? FROM run WHERE id = ?"
SAY: Final = (  # nothing of a run that was removed for good meanwhile; the time rises though the clock steps back
    "INSERT INTO said (run, what, time) SELECT id, ?, ? FROM run WHERE id = ?"
    " ON CONFLICT (run, what) DO UPDATE SET time = max(excluded.time, time + 0.001)"
)
# Of those that were chosen for one comparison the one that was chosen last; what is in the bin is none.
_LAST: Final = """
    chosen AND deleted IS NULL AND comparable <> '' AND NOT EXISTS (
        SELECT 1 FROM main.run o WHERE o.chosen AND o.deleted IS NULL AND o.comparable = run.comparable AND (
            coalesce((SELECT time FROM main.said WHERE run = o.id AND what = 'chosen'), 0), o.uid
        ) > (coalesce((SELECT time FROM main.said WHERE run = run.id AND what = 'chosen'), 0), run.uid)
    )
"""


def checked_tag(name: str) -> str:
    """The tag as it is kept.

    Raises:
        Problem: it is empty or too long, or holds what separates or negates tags elsewhere (code `tag`).
    """
    tag = name.strip()
    if not tag or len(tag) > LONGEST:
        raise Problem(f"A tag has 1 to {LONGEST} characters, not {len(tag)}", code="tag")
    odd = next((letter for letter in tag if letter in ",\"'" or letter.isspace() or not letter.isprintable()), "")
    if odd or tag[0] in "-!+":
        found = f"There is {odd!r} in it." if odd else f"It begins with {tag[0]!r}."
        do = "Take letters, digits and signs such as - _ . : / within the word."
        raise Problem(f"{tag!r} cannot be a tag", found, do, code="tag")
    return tag


def tag(ledger: Ledger, chosen: Iterable[Run], name: str) -> None:
    """Give runs a tag; those that have it keep it.

    Raises:
        Problem: it cannot be a tag, or the ledger is read-only.
    """
    word = checked_tag(name)
    with ledger.transaction(durable=True) as connection:
        for run in chosen:
            if connection.execute(_TAGGED, (word, run.id)).rowcount:
                say(connection, run.id, "tags")


def untag(ledger: Ledger, chosen: Iterable[Run], name: str) -> None:
    """Take a tag from runs; those that have none such stay as they are."""
    with ledger.transaction(durable=True) as connection:
        for run in chosen:
            if connection.execute("DELETE FROM tag WHERE run = ? AND name = ?", (run.id, name.strip())).rowcount:
                say(connection, run.id, "tags")


def set_tags(ledger: Ledger, run: Run, names: Iterable[str]) -> None:
    """Let a run have these tags and no others.

    Raises:
        Problem: one of them cannot be a tag; nothing has changed.
    """
    wanted = {checked_tag(name) for name in names}
    with ledger.transaction(durable=True) as connection:
        there = {row[0] for row in connection.execute("SELECT name FROM tag WHERE run = ?", (run.id,))}
        if wanted == there:
            return
        connection.executemany("DELETE FROM tag WHERE run = ? AND name = ?", [(run.id, old) for old in there - wanted])
        connection.executemany(_TAGGED, [(new, run.id) for new in wanted - there])
        say(connection, run.id, "tags")


def tags(ledger: Ledger, run: Run) -> tuple[str, ...]:
    """A run's tags, in the order of the alphabet."""
    return tuple(str(row[0]) for row in ledger.rows("SELECT name FROM tag WHERE run = ? ORDER BY name", (run.id,)))


def known_tags(ledger: Ledger) -> dict[str, int]:
    """All tags and how many runs have each, the most used first; runs in the bin do not count."""
    query = (
        "SELECT t.name, count(*) FROM tag t JOIN run r ON r.id = t.run WHERE r.deleted IS NULL"
        " GROUP BY t.name ORDER BY count(*) DESC, t.name"
    )
    return {str(name): int(count) for name, count in ledger.rows(query)}


def set_note(ledger: Ledger, run: Run, note: str) -> None:
    """The user's own words about the run, in Markdown."""
    _set(ledger, (run,), "note", note)


def rename(ledger: Ledger, run: Run, name: str) -> None:
    """Give a run another name.

    Raises:
        Problem: the name is empty, too long, not printable, or another run's (code `name`).
    """
    wanted = name.strip()
    if not wanted or len(wanted) > runs.LONGEST_NAME or not wanted.isprintable():
        why = f"A name has 1 to {runs.LONGEST_NAME} printable characters in one line."
        raise Problem(f"A run cannot be called {wanted[: runs.LONGEST_NAME]!r}", why, code="name")
    with ledger.transaction(durable=True) as connection:
        query = "SELECT uid FROM run WHERE (name = ?1 OR uid = ?1) AND id <> ?2 AND deleted IS NULL"
        if (other := connection.execute(query, (wanted, run.id)).fetchone()) is not None:
            free = runs.free_name(connection, wanted)
            why = f"It is the run {other[0]}'s."
            raise Problem(f"{wanted} is taken", why, f"Take another name, such as {free}.", code="name")
        call(connection, run.id, wanted)


def call(connection: sqlite3.Connection, run: int, name: str) -> None:
    """Give a run a name that is free; in the caller's transaction."""
    connection.execute("UPDATE run SET name = ? WHERE id = ? AND name <> ?", (name, run, name))
    _write_id(connection, run, "called", name)


def set_baseline(ledger: Ledger, run: Run, *, on: bool = True) -> None:
    """Let others be held against this run, or no longer. Of runs whose losses may be compared (`comparable`) one is the baseline:
    it takes that from the one before.

    Raises:
        Problem: it is not known what the run may be compared with (code `baseline`).
    """
    if on and not run.comparable:
        raise Problem(
            f"{run.name} cannot be a baseline",
            "It is not known on which validation rows it was measured, so nothing may be held against it.",
            "Take a run that has measured its validation loss here.",
            code="baseline",
        )
    with ledger.transaction(durable=True) as connection:
        if on:
            before = connection.execute(
                "SELECT id FROM run WHERE comparable = ? AND chosen AND id <> ?", (run.comparable, run.id)
            ).fetchall()
            for (other,) in before:
                _write_id(connection, other, "chosen", 0)
        _write(connection, (run,), "chosen", int(on))
        settle_baselines(connection)


def settle_baselines(connection: sqlite3.Connection) -> None:
    """Bring `baseline` up to date with which runs were chosen, when, and are not in the bin; in the caller's transaction."""
    connection.execute(
        f"UPDATE main.run SET baseline = NOT baseline WHERE (chosen OR baseline) AND baseline <> ({_LAST})"
    )


def archive(ledger: Ledger, chosen: Iterable[Run]) -> None:
    """Leave runs out of the table unless they are asked for."""
    _set(ledger, [run for run in chosen if run.archived is None], "archived", time.time())


def unarchive(ledger: Ledger, chosen: Iterable[Run]) -> None:
    """Show archived runs again."""
    _set(ledger, [run for run in chosen if run.archived is not None], "archived", None)


def _set(ledger: Ledger, chosen: Iterable[Run], column: str, value: Value) -> None:
    with ledger.transaction(durable=True) as connection:
        _write(connection, chosen, column, value)


def _write(connection: sqlite3.Connection, chosen: Iterable[Run], column: str, value: Value) -> None:
    for run in chosen:
        _write_id(connection, run.id, column, value)


def _write_id(connection: sqlite3.Connection, run: int, column: str, value: Value) -> None:
    query = f"UPDATE run SET {column} = ? WHERE id = ? AND {column} IS NOT ?"
    if connection.execute(query, (value, run, value)).rowcount:
        say(connection, run, column)


def say(connection: sqlite3.Connection, run: int, what: str) -> None:
    """Note that a person has just said this of a run; in the caller's transaction, after the change itself."""
    connection.execute(SAY, (what, time.time(), run))
