"""Deleting runs: into the bin, from where they come back, and out of it for good.

The bin of a run's files lies beside them, on the same disk (`RUNS/.bin/UID`), so that nothing is copied. A run is marked as deleted before
its folder moves, and unmarked for good after it has moved back: wherever the process dies between, both ways can still be gone.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.errors import Problem
from engine.ledger import Ledger, jobs, runs
from engine.ledger.holdings import BIN
from engine.ledger.labels import call, say, settle_baselines
from engine.ledger.runs import Run
from engine.ledger.states import LIVE
from engine.places import private_folder

KEPT: Final = 7 * 86400.0  # seconds that a run stays in the bin, at least


def children_first(chosen: Iterable[Run]) -> list[Run]:
    """Runs in an order in which they can be deleted: what goes on from a run has a later row."""
    return sorted(chosen, key=lambda run: run.id, reverse=True)


def refuse_if_used(ledger: Ledger, run: Run, besides: Collection[Run] = ()) -> None:
    """Nothing, unless a process trains or evaluates the run, or another run cannot be without it; `besides` are to be deleted too.

    Raises:
        Problem: so it is; it says which.
    """
    if _may_be_trained(ledger, run):
        raise Problem(f"{run.name} is {run.state}", "A process works on it.", "Stop it first.", code="running")
    for job in jobs.live(ledger):
        if jobs.is_out_of_reach(job) and not run.folder.is_dir():
            continue
        named = json.loads(job.argument).get("runs", [])
        if jobs.seen_state(job) in LIVE and (job.run == run.id or run.uid in named):
            raise Problem(
                f"{run.name} is being used",
                f"A job of kind {job.kind} works on it (process {job.pid}).",
                "Wait for it to end.",
                code="running",
            )
    for child in runs.children(ledger, run):
        if _may_be_trained(ledger, child):
            why = f"{child.name} is {child.state} and goes on from it."
            raise Problem(f"{run.name} is being used", why, "Wait for it to end.", code="running")
        goes_too = any(child.id == other.id for other in besides)
        if run.result_kind == "model" and child.result_kind != "model" and not goes_too:
            raise Problem(
                f"{run.name} is the base model of {child.name}",
                f"{child.name} could neither be resumed nor used without it.",
                f"Delete {child.name} first.",
                code="base",
            )


def _may_be_trained(ledger: Ledger, run: Run) -> bool:
    """Whether a process may be at work on the run's files.

    Of a run on another machine this ledger may know only by merging that machine's, and for ever that it was at work then: where its files
    are not here, they are none of our business.
    """
    job = jobs.newest_training(ledger, run.id)
    elsewhere = job is not None and jobs.is_out_of_reach(job) and not run.folder.is_dir()
    return run.state in LIVE and not elsewhere


def size(run: Run) -> int:
    """Bytes of the run's files; 0 where there are none."""
    return _bytes(_place(run))


def bin_size(runs_folder: Path) -> int:
    """Bytes of the files of deleted runs that lie in the bin of a runs folder."""
    return _bytes(runs_folder / BIN)


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += 0 if path.is_dir() else path.lstat().st_size
        except FileNotFoundError:  # a checkpoint that was just replaced
            continue
    return total


def remove(ledger: Ledger, run: Run) -> None:
    """Put a run with its files into the bin, from where `restore` gets it back; what has lain there for long goes for good.

    Its name is free from then on.

    Raises:
        Problem: a process uses it, or its folder cannot be moved (nothing has changed); or older files could not be removed for good.
    """
    with ledger.transaction(durable=True) as connection:
        now = runs.by_id(ledger, run.id)  # the caller's may be old
        if now is None:
            return
        refuse_if_used(ledger, now)
        connection.execute("UPDATE run SET deleted = ? WHERE id = ?", (time.time(), run.id))
        say(connection, run.id, "deleted")
        settle_baselines(connection)
    try:
        _put_into_bin(ledger, run)
    except OSError as error:
        with ledger.transaction(durable=True) as connection:
            _unmark(connection, run, runs.free_name(connection, run.name))
        why = f"{run.folder} cannot be moved into {_in_bin(run).parent}: {error.strerror}."
        raise Problem(
            f"{run.name} cannot be deleted", why, "See who may write to that folder, then try again.", code="disk"
        ) from error
    purge(ledger, older_than=KEPT)


def restore(ledger: Ledger, run: Run) -> Run:
    """Get a run back out of the bin with its files; where its name was taken meanwhile, it gets a number.

    Raises:
        Problem: it is not in the bin any more, or its folder cannot be moved back (it stays in the bin).
    """
    run = runs.find(ledger, run.uid, binned=True)
    with ledger.transaction(durable=True) as connection:
        _unmark(connection, run, runs.free_name(connection, run.name))
        try:
            if run.has_own_folder and _in_bin(run).is_dir() and not run.folder.exists():
                _in_bin(run).rename(run.folder)
        except OSError as error:
            why = f"{_in_bin(run)} cannot be moved to {run.folder}: {error.strerror}."
            raise Problem(
                f"{run.name} cannot be restored", why, "See who may write to that folder, then try again.", code="disk"
            ) from error
    return runs.find(ledger, run.uid)


def binned(ledger: Ledger, *, older_than: float = 0.0) -> list[Run]:
    """The runs that have been in the bin for longer than this many seconds, all of them for 0; what was deleted last first."""
    if not older_than:
        return runs.binned(ledger)
    found = runs.binned(ledger, before=time.time() - older_than)
    return [run for run in found if _since(ledger, run) < time.time() - older_than]


def purge(ledger: Ledger, *, older_than: float = KEPT) -> list[Run]:
    """Remove for good what has been in the bin for longer than this many seconds, all of it for 0; returns those runs.

    Raises:
        Problem: files could not be removed (the rows of all these runs are gone).
    """
    return purge_runs(ledger, binned(ledger, older_than=older_than))


def purge_runs(ledger: Ledger, chosen: Iterable[Run]) -> list[Run]:
    """Remove these runs for good, as far as they are in the bin: their rows first, then their files. Returns and raises as `purge`."""
    gone: list[Run] = []
    for run in chosen:
        with ledger.transaction(durable=True) as connection:
            if connection.execute("DELETE FROM run WHERE id = ? AND deleted IS NOT NULL", (run.id,)).rowcount:
                gone.append(run)
    left: list[str] = []
    for run in gone:
        for place in (_in_bin(run), run.folder) if run.has_own_folder else ():
            try:
                if place.is_dir():
                    shutil.rmtree(place)
            except OSError as error:
                left.append(f"{place}: {error.strerror}")
    if left:
        raise Problem(
            f"{len(gone)} runs are out of the ledger, but files are left",
            f"{'; '.join(left)}.",
            "Remove these folders by hand.",
            code="disk",
        )
    return gone


def _unmark(connection: sqlite3.Connection, run: Run, name: str) -> None:
    connection.execute("UPDATE run SET deleted = NULL WHERE id = ?", (run.id,))
    say(connection, run.id, "deleted")
    call(connection, run.id, name)
    settle_baselines(connection)


def _since(ledger: Ledger, run: Run) -> float:
    """When both the run and its files were in the bin, in seconds since the epoch.

    Of a run that was deleted on another machine, which its ledger told this one, the files are put there only now.
    """
    assert run.deleted is not None
    with suppress(OSError):
        _put_into_bin(ledger, run)
        return max(run.deleted, _in_bin(run).stat().st_ctime)  # moving a folder changes no other of its times
    return run.deleted


def _put_into_bin(ledger: Ledger, run: Run) -> None:
    """Move the run's files there, unless somebody has restored it meanwhile: the ledger's lock keeps the two apart."""
    if not run.has_own_folder or not run.folder.is_dir():
        return
    with ledger.transaction() as connection:
        if connection.execute("SELECT 1 FROM run WHERE id = ? AND deleted IS NOT NULL", (run.id,)).fetchone():
            private_folder(_in_bin(run).parent)
            run.folder.rename(_in_bin(run))


def _in_bin(run: Run) -> Path:
    return run.folder.parent / BIN / run.uid


def _place(run: Run) -> Path:
    """Where the run's files are now."""
    return _in_bin(run) if run.deleted is not None and _in_bin(run).is_dir() else run.folder
