"""A second copy of the ledger beside the runs, where the ledger's own disk may not outlive this machine: kept up by jobs, restored by merging.

A ledger cannot work on a network disk and should not be the only thing lost with a container. Each ledger has a copy of its own in the
runs folder, which several machines may share, and never writes over another's: not over that of a lost ledger in whose place a new one was
begun. Restoring merges all that are there, so it does no harm to do it twice or late.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine import machine
from engine.errors import Problem
from engine.ledger import copies, merging
from engine.ledger.merging import Merged
from engine.ledger.store import Ledger
from engine.storage import storage_of

EVERY: Final = 300.0  # seconds between two copies, at least
SHARE: Final = 0.02  # of the time at most is spent on copying
PREFIX: Final = "ledger-copy-"

log = logging.getLogger("engine")


def wanted(ledger: Path, runs_folder: Path) -> str:
    """Why a copy should be kept beside the runs; empty where the ledger's disk lasts as long as theirs.

    Raises:
        OSError: a disk does not answer.
    """
    own, theirs = storage_of(ledger), storage_of(runs_folder)
    if theirs.short_lived:
        return ""
    if own.short_lived:
        return f"the ledger's disk does not last: {own.short_lived}"
    return "the runs are on a network disk, where a ledger cannot be" if theirs.is_network else ""


def place(ledger: Ledger, runs_folder: Path) -> Path:
    """Where this ledger's copy is kept; the machine's name is in it for people."""
    host = re.sub(r"[^A-Za-z0-9.-]", "-", machine.here().host)
    return runs_folder / f"{PREFIX}{host}-{ledger.value('SELECT uid FROM identity')!s}.db"


def found(runs_folder: Path) -> list[Path]:
    """The copies of all ledgers, the newest first; none where the disk does not answer."""
    try:
        return sorted(runs_folder.glob(f"{PREFIX}*.db"), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return []


def restore(ledger: Ledger, paths: list[Path], progress: merging.Progress | None = None) -> Merged:
    """Bring what the copies hold into the ledger.

    Raises:
        Problem: as `merging.merge`; those before it are merged.
    """
    merged = Merged()
    for path in paths:
        merged = merging.joined(merged, merging.merge(ledger, path, progress=progress))
    return merged


@contextmanager
def kept(ledger: Ledger, runs_folder: Path) -> Iterator[None]:
    """Keep a copy beside the runs while a job works, and make a last one when it has ended. Nothing that goes wrong holds up the job."""
    try:
        why = wanted(ledger.path, runs_folder)
    except OSError as error:
        log.warning("no copy of the ledger beside the runs: %s", error)
        why = ""
    if not why:
        yield
        return
    over = threading.Event()

    def keep() -> None:
        pause = EVERY
        while not over.wait(pause):
            pause = max(EVERY, _copied(ledger, runs_folder) / SHARE)

    thread = threading.Thread(target=keep, name="copy of the ledger", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        _copied(ledger, runs_folder)


def _copied(ledger: Ledger, runs_folder: Path) -> float:
    """Make the copy; returns the seconds that it took. Jobs take turns, so that what stands is never older than what stood."""
    began = time.monotonic()
    turn = ledger.path.with_name(f"{ledger.path.name}.copying")
    try:
        with open(turn, "ab", opener=_private) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            copies.backup(ledger.path, place(ledger, runs_folder), replace=True)
    except (Problem, sqlite3.Error, OSError) as error:
        log.warning("no copy of the ledger beside the runs: %s", error)
    return time.monotonic() - began


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
