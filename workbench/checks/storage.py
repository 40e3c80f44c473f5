"""Where ledger and runs are kept: will they last, can the ledger be locked there, is there room."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from engine.errors import Problem
from engine.ledger import Ledger, beside_runs
from engine.storage import Storage, storage_of
from screens.widgets import figures
from workbench.checks import Check

LEDGER_ROOM: Final = 1 << 30  # bytes: metrics take 8.5 bytes a point, so this is plenty
RUNS_ROOM: Final = 20 << 30  # bytes: a few checkpoints of a 7B model's adapter with optimizer state


def check_all(ledger: Path, runs_folder: Path) -> Iterator[Check]:
    """The ledger itself, its disk, the copy of it where one is needed, and the disk of the runs."""
    yield check_ledger(ledger)
    why = beside_runs.wanted(ledger, runs_folder)
    yield check_place("ledger disk", ledger.parent, storage_of(ledger.parent), LEDGER_ROOM, copied=bool(why))
    if why:
        yield check_copy(ledger, runs_folder, why)
    yield check_place("runs disk", runs_folder, storage_of(runs_folder), RUNS_ROOM)


def check_ledger(path: Path) -> Check:
    """Whether the ledger opens, can be written and is whole."""
    if not path.exists():
        return Check("ledger", True, f"none yet; the first run makes {path}")
    try:
        ledger = Ledger.open(path)
    except Problem as problem:
        return Check("ledger", False, f"{problem.what}: {problem.why}", problem.do)
    try:
        if ledger.read_only:
            return Check(
                "ledger", False, f"{path} can only be read", "Make it writable, or name another with --ledger."
            )
        answer = str(ledger.value("PRAGMA quick_check(1)"))
        size = path.stat().st_size / 2**20
        if answer != "ok":
            return Check("ledger", False, f"{path} is damaged: {answer}", "Restore a copy; do not write to it.")
        return Check("ledger", True, f"{path}, {size:.1f} MiB, whole")
    finally:
        ledger.close()


def check_copy(path: Path, runs_folder: Path, why: str) -> Check:
    """Whether the copy that jobs keep beside the runs is there: it may lack what was done since the last one ended."""
    if not path.exists():
        return Check("ledger copy", True, f"jobs will keep one in {runs_folder}, because {why}")
    try:
        with Ledger.open(path) as ledger:
            copy = beside_runs.place(ledger, runs_folder)
    except Problem as problem:
        return Check("ledger copy", False, problem.what, problem.do)
    if copy.exists():
        return Check("ledger copy", True, f"{copy}, {figures.clock(copy.stat().st_mtime, time.time())}; {why}")
    advice = f"The next job makes one, or now: workbench ledger backup {copy}"
    return Check("ledger copy", False, f"none yet, though {why}", advice)


def check_place(name: str, folder: Path, storage: Storage, room: int, *, copied: bool = False) -> Check:
    """Whether a disk is local (for the ledger), lasts, and has room."""
    shown = f"{folder} on {storage.kind}, {storage.free / 2**30:.1f} GiB free"
    if storage.is_network and name == "ledger disk":
        advice = "A ledger needs a local disk: set WORKBENCH_HOME to one, and runs_folder in the settings to this one."
        return Check(name, False, f"{shown}; it is on the network", advice)
    if storage.short_lived and not copied:
        return Check(name, False, f"{shown}; {storage.short_lived}", "Set WORKBENCH_HOME to a disk that lasts.")
    if storage.free < room:
        return Check(name, False, shown, f"Make room: {room / 2**30:.0f} GiB should be free.")
    return Check(name, True, shown)
