"""Is a ledger whole: its file, its rows and what they refer to, its metrics and their summaries. What can be mended without a guess is mended if asked.

`engine.ledger.holdings` holds what it says of files against the disk.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from engine.errors import Problem
from engine.ledger import contents, integers, packing
from engine.ledger.packing import Totals
from engine.ledger.store import Ledger

SHOWN: Final = 20  # of SQLite's own complaints
RESTORE: Final = (
    "Do not write to it. Restore a copy (workbench ledger restore, or a backup), then merge what this one still gives."
)
CLOSE: Final = 1e-9  # relative: smoothed values are summed in another order than they were logged in
Progress = Callable[[int, int, str], None]  # done, to do, of what


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: what, and what to do about it. `run` is the uid of the run it is about, if any."""

    kind: str  # integrity, reference, segment, summary, folder, checkpoint, result, artifact, orphan, leftover
    what: str
    do: str
    run: str = ""
    mended: bool = False


def damage(ledger: Ledger) -> Iterator[Finding]:
    """What is wrong with the file itself: where there is any, what `check` could find would follow from it.

    Raises:
        Problem: the ledger cannot be read any further.
    """
    sound = True
    for (told,) in ledger.rows(f"PRAGMA integrity_check({SHOWN})"):
        if told != "ok":
            sound = False
            said = " ".join(str(told).removeprefix("*** in database main ***").split())
            yield Finding("integrity", f"The file is damaged: {said}", RESTORE)
    for fault in contents.faults(ledger) if sound else ():
        yield Finding("integrity", f"The file is damaged: {fault}", RESTORE)


def check(ledger: Ledger, *, fix: bool, progress: Progress) -> Iterator[Finding]:
    """Look through what rows refer to and all metrics, in a file that is not damaged.

    Raises:
        Problem: the ledger cannot be read any further, or with `fix` not be written.
    """
    yield from _references(ledger, fix)
    runs = [
        (int(run), str(uid), str(name)) for run, uid, name in ledger.rows("SELECT id, uid, name FROM run ORDER BY id")
    ]
    for done, (run, uid, name) in enumerate(runs, 1):
        found = list(_segments(ledger, run, uid, name))
        yield from found
        if not found:
            yield from _summaries(ledger, run, uid, name, fix)
        progress(done, len(runs), "runs' metrics")


def _references(ledger: Ledger, fix: bool) -> Iterator[Finding]:
    """Rows that belong to something that is not there: only programs that are not ours leave such."""
    lost: dict[tuple[str, str], list[int]] = {}
    for table, row, parent, _ in ledger.rows("PRAGMA foreign_key_check"):
        lost.setdefault((str(table), str(parent)), []).append(row)
    for (table, parent), rows in lost.items():
        mended = fix and None not in rows
        if mended:
            with ledger.transaction(durable=True) as connection:
                connection.executemany(f"DELETE FROM {table} WHERE rowid = ?", [(row,) for row in rows])
        what = f"{len(rows)} rows of {table} belong to a {parent} that is not there"
        yield Finding("reference", what, "Remove them: workbench ledger check --fix", mended=mended)


def _segments(ledger: Ledger, run: int, uid: str, name: str) -> Iterator[Finding]:
    """Sealed metrics that cannot be read, or that tell two things of one step."""
    do = "Restore it from a copy: delete the run here, then merge the copy (workbench ledger merge FILE)."
    with ledger.reading() as connection:
        before: tuple[int, int] | None = None
        for number, keyset, first, last, n, keys, *packed in connection.execute(
            "SELECT s.id, s.keyset, s.first_step, s.last_step, s.n, k.keys, s.steps, s.seqs, s.times"
            " FROM segment s JOIN keyset k ON k.id = s.keyset WHERE s.run = ? ORDER BY s.keyset, s.first_step",
            (run,),
        ):
            if why := _unreadable(connection, number, keys, first, last, n, packed):
                yield Finding("segment", f"{name}: sealed metrics at steps {first} to {last}: {why}", do, uid)
            if before and before[0] == keyset and before[1] >= first:
                yield Finding("segment", f"{name}: two segments of the same metrics hold step {first}", do, uid)
            before = (keyset, last)


def _unreadable(
    connection: sqlite3.Connection, segment: int, keys: str, first: int, last: int, n: int, packed: list[bytes]
) -> str:
    """What is wrong with a segment; empty when nothing is."""
    try:
        steps = integers.unpack(packed[0], n)
        for rest in packed[1:]:
            integers.unpack(rest, n)
    except ValueError as error:
        return str(error)
    if (steps[0], steps[-1]) != (first, last) or (steps[1:] <= steps[:-1]).any():
        return "its steps are not those that it is filed under"
    sizes = dict(connection.execute("SELECT key, length(vals) FROM packed WHERE segment = ?", (segment,)))
    if sizes != {int(key): 8 * n for key in keys.split(",")}:
        return f"it has not {n} values of each of its metrics"
    return ""


def _summaries(ledger: Ledger, run: int, uid: str, name: str, fix: bool) -> Iterator[Finding]:
    """Summaries that are not those of the points: what the table of runs shows would be wrong."""
    for key, metric in ledger.rows(
        "SELECT s.key, k.name FROM series s JOIN key k ON k.id = s.key WHERE s.run = ?", (run,)
    ):
        with ledger.reading() as connection:
            stands, true = packing.totals(connection, run, key), packing.recounted(connection, run, key)
        if _alike(stands, true):
            continue
        if fix:
            with ledger.transaction(durable=True) as connection:  # counted again: the run may be at work
                packing.keep(connection, run, key, packing.recounted(connection, run, key))
        what = f"{name}: the summary of {metric} is not that of its points"
        yield Finding("summary", what, "Count it anew: workbench ledger check --fix", uid, mended=fix)


def _alike(one: Totals, other: Totals) -> bool:
    return all(
        mine == theirs
        or (isinstance(mine, float) and isinstance(theirs, float) and math.isclose(mine, theirs, rel_tol=CLOSE))
        for mine, theirs in zip(one, other, strict=True)
    )


def unreadable(problem: Problem) -> Finding:
    """A ledger that could not be read to its end, as a finding."""
    return Finding("integrity", f"{problem.what}. {problem.why}".strip(), problem.do)
