"""Bring the runs of another ledger into this one: any number of machines, in any order, as often as one likes.

A run is known by its uid. Where both ledgers have it, each half of it is decided for itself, by a rule that does not ask which ledger is
merged into which; so merging is commutative, and merging again adds nothing:

- its training (state, metrics, events, jobs, checkpoints, results) comes whole from the copy that is further: more training jobs, then more
  points, the newer heartbeat, more events, and among copies that are alike in all of these the higher hash of the content;
- of what people said (name, note, tags, baseline, archive, bin) each comes from the copy in which it was said last;
- evaluations and exports, which anybody can make who has the result, are gathered from both, and so is what CUDA holds of each GPU.

A run that was deleted for good has left nothing behind to know it by: a ledger that still has it brings it back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from engine.errors import Problem
from engine.ledger import contents, contexts, gathering, jobs, labels, opening, schema, standing, taking
from engine.ledger.copies import backup
from engine.ledger.store import Ledger
from engine.storage import storage_of

# Points merged in one transaction: a training that logs meanwhile waits for a second at most.
PORTION: Final = 10_000_000
Progress = Callable[[int, int], None]  # runs done and to do


@dataclass(frozen=True)
class Conflict:
    """A run of which only one of two histories could be kept, and why."""

    uid: str
    name: str
    why: str


@dataclass(frozen=True)
class Merged:
    """What merging did, by uid: runs that are new here, that changed, that are as they were; new or changed evaluations."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)  # by uid, runs that gave way to an older one of the same name
    evaluations: int = 0
    notes: dict[str, str] = field(
        default_factory=dict
    )  # by uid, notes that were here and gave way to what was said later


def merge(
    ledger: Ledger, path: Path, *, only: Collection[str] | None = None, progress: Progress | None = None
) -> Merged:
    """Merge the ledger in the file `path` into `ledger`; with `only`, runs with these uids. The file is only read.

    It may be in use. Large ones are merged in several transactions; one that was interrupted is finished by merging again.

    Raises:
        Problem: the file is not there, not a ledger, damaged, newer than this program, or `ledger` itself; `ledger` is read-only, its disk
            is full. What was merged so far stands.
    """
    merged = Merged()
    with _source(ledger, path.expanduser().resolve()) as source:
        portions = list(_portions(source, only))
        total, done = sum(map(len, portions)), 0
        uri = opening.uri(source.path)
        for portion in portions:
            with ledger.transaction(durable=True, beside=uri) as connection:
                merged = joined(merged, _merge_runs(ledger, connection, portion))
            done += len(portion)
            if progress:
                progress(done, total)
        with ledger.transaction(durable=True, beside=uri) as connection:
            asking = any(job.kind == "evaluate" and jobs.may_be_at_work(job) for job in jobs.live(ledger))
            evaluations = gathering.gather(connection, only, asking=asking)
            contexts.gather(connection)
            labels.settle_baselines(connection)
            renamed = _distinct_names(connection)
    changed = [uid for uid in renamed if uid in merged.kept]
    return Merged(
        merged.added,
        (*merged.updated, *changed),
        tuple(uid for uid in merged.kept if uid not in renamed),
        merged.conflicts,
        renamed,
        evaluations,
        merged.notes,
    )


@contextmanager
def _source(ledger: Ledger, path: Path) -> Iterator[Ledger]:
    """The other ledger, whole and of this version; an older one is copied and the copy brought up to date."""
    if not path.exists():
        raise Problem(f"There is no ledger at {path}", do="Name the file of a ledger.", code="ledger")
    if path.is_dir():
        raise Problem(f"{path} is a folder, not a ledger", do="Name the file of a ledger.", code="ledger")
    if path.samefile(ledger.path):
        raise Problem(f"{path} is the ledger itself", do="Name another one to merge into it.", code="ledger")
    _refuse_unreadable(path)
    version = opening.version_of(path)
    if not version:
        raise Problem(
            f"{path} is empty", "There is nothing in it to merge.", "Name the file of a ledger.", code="ledger"
        )
    if version == schema.VERSION:
        with Ledger.open(path, read_only=True) as source:
            _refuse_damaged(source)
            yield source
        return
    # Beside the ledger, where there is room for what is to be merged: a temporary folder is often small and in memory.
    with TemporaryDirectory(prefix=".merging-", dir=ledger.path.parent) as folder:
        copy = Path(folder) / path.name
        backup(path, copy)
        with Ledger.open(copy) as source:
            yield source


def _refuse_unreadable(path: Path) -> None:
    log = path.with_name(f"{path.name}-wal")
    if storage_of(path).is_network and log.exists() and log.stat().st_size:
        raise Problem(
            f"{path} cannot be read safely: {log.name} holds changes",
            "It is on a network disk, and another machine may be writing to it.",
            "Close what uses it, or make a copy where it is used: workbench ledger backup FILE",
            code="ledger",
        )


def _refuse_damaged(source: Ledger) -> None:
    answer = str(source.value("PRAGMA quick_check(1)"))
    fault = f"SQLite says: {answer}." if answer != "ok" else ""
    if not fault and (found := next(contents.faults(source, profiles=False), None)):
        fault = f"{found[0].upper()}{found[1:]}."
    if fault:
        raise Problem(f"{source.path} is damaged", fault, "Merge a copy that is whole.", code="ledger")


def _portions(source: Ledger, only: Collection[str] | None) -> Iterator[list[str]]:
    """The uids to merge, oldest first, in portions of about `PORTION` points."""
    rows = source.rows(
        "SELECT uid, (SELECT coalesce(sum(n), 0) FROM series WHERE run = id) FROM run ORDER BY created, uid"
    )
    portion: list[str] = []
    points = 0
    for uid, n in rows:
        if only is not None and uid not in only:
            continue
        if portion and points + n > PORTION:
            yield portion
            portion, points = [], 0
        portion.append(uid)
        points += n
    if portion:
        yield portion


def joined(first: Merged, then: Merged) -> Merged:
    """What merging one and then another did."""
    return Merged(
        first.added + then.added,
        first.updated + then.updated,
        first.kept + then.kept,
        first.conflicts + then.conflicts,
        first.renamed | then.renamed,
        first.evaluations + then.evaluations,
        first.notes | then.notes,
    )


def _merge_runs(ledger: Ledger, connection: sqlite3.Connection, uids: Sequence[str]) -> Merged:
    ours, theirs = standing.copies(connection, "main", uids), standing.copies(connection, "other", uids)
    uids = [uid for uid in uids if uid in theirs]  # the other ledger may be in use, and runs be deleted from it
    both = [uid for uid in uids if uid in ours]
    alike = [uid for uid in both if ours[uid].far == theirs[uid].far]
    mine = standing.digests(connection, "main", [ours[uid].id for uid in alike])
    others = standing.digests(connection, "other", [theirs[uid].id for uid in alike])
    busy = _at_work(ledger, connection)
    verdicts = {}
    for uid in both:
        here, there = ours[uid], theirs[uid]
        content = mine.get(here.id, b""), others.get(there.id, b"")
        verdicts[uid] = standing.judged(here, there, content, at_work=here.id in busy)
    added = tuple(uid for uid in uids if uid not in ours)
    taking.new_runs(connection, added)
    taking.training_part(connection, {theirs[uid].id: ours[uid].id for uid in both if verdicts[uid].ahead})
    for what in standing.SAID:
        newer = {theirs[uid].id: ours[uid].id for uid in both if what in verdicts[uid].said}
        taking.people_part(connection, what, newer)
    moved = [uid for uid in both if verdicts[uid].folder != ours[uid].folder]
    folders = [(verdicts[uid].folder, ours[uid].id) for uid in moved]
    connection.executemany("UPDATE run SET folder = ? WHERE id = ?", folders)
    changed = {*moved, *gathering.beside_training(connection, uids)}
    changed |= {uid for uid in both if verdicts[uid].ahead or verdicts[uid].said}
    notes = {uid: ours[uid].said["note"][1] for uid in both if "note" in verdicts[uid].said}
    return Merged(
        added,
        tuple(uid for uid in both if uid in changed),
        tuple(uid for uid in both if uid not in changed),
        tuple(
            Conflict(uid, ours[uid].said["called"][1], each.conflict) for uid, each in verdicts.items() if each.conflict
        ),
        notes={
            uid: note for uid, note in notes.items() if note not in theirs[uid].said["note"][1]
        },  # one that goes on is not lost
    )


def _at_work(ledger: Ledger, connection: sqlite3.Connection) -> set[int]:
    """Runs whose job may be writing to this ledger: its heart beats here at least as late as in the other."""
    beats = dict(connection.execute("SELECT uid, coalesce(heartbeat, 0) FROM other.job"))
    return {
        job.run
        for job in jobs.live(ledger)
        if job.kind == "train"
        and job.run is not None
        and jobs.may_be_at_work(job)
        and (job.heartbeat or 0.0) >= beats.get(job.uid, 0.0)
    }


def _distinct_names(connection: sqlite3.Connection) -> dict[str, str]:
    """Give each run a name of its own, made of what it is called; returns the new names by uid.

    The oldest keeps its name, others get their machine behind it, and where that is taken too the beginning of their uid: names that hang on
    the run alone, so that all ledgers come to the same ones in whatever order they meet.
    """
    here = "FROM main.run WHERE deleted IS NULL"  # what is in the bin holds no name
    connection.execute("UPDATE main.run SET name = called WHERE deleted IS NOT NULL AND name <> called")
    if not connection.execute(
        f"SELECT 1 {here} GROUP BY called HAVING count(*) > 1 UNION SELECT 1 {here} AND name <> called"
    ).fetchone():
        return {}
    rows = connection.execute(
        "SELECT uid, name, called, (SELECT host FROM main.job WHERE run = run.id AND host IS NOT NULL ORDER BY id LIMIT 1)"
        f" {here} ORDER BY created, uid"
    ).fetchall()
    taken: set[str] = set()
    renamed = {}
    for uid, name, called, host in rows:
        at_host = f"{called}@{host}" if host else called
        own = next(each for each in (called, at_host, f"{at_host}-{uid[:6]}", f"{at_host}-{uid}") if each not in taken)
        taken.add(own)
        if own != name:
            renamed[uid] = own
    connection.executemany("UPDATE main.run SET name = ? WHERE uid = ?", [(name, uid) for uid, name in renamed.items()])
    return renamed
