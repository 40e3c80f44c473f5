"""What every screen works on: one ledger, the folder for new runs, and what is asked of the machine around them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.gpu import Gpu, gpus
from engine.ledger import Ledger


@dataclass(frozen=True)
class Room:
    """Free bytes on a folder's disk, bytes of this machine's memory in use and in all. None is what could not be asked."""

    disk_free: int | None
    ram_used: int | None
    ram_total: int | None


def room(folder: Path) -> Room:
    """As it is now; for a folder that is gone, on the disk where it was."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        free = None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        memory = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":", 1) for line in lines)}
        return Room(free, memory["MemTotal"] - memory["MemAvailable"], memory["MemTotal"])
    except (OSError, KeyError):
        return Room(free, None, None)


@dataclass(frozen=True)
class Session:
    """`clock` (seconds since the epoch), `gpus` and `room` are asked, never the machine itself: a picture can be taken of fixed ones."""

    ledger: Ledger
    runs_folder: Path
    clock: Callable[[], float] = time.time
    gpus: Callable[[], tuple[Gpu, ...]] = gpus
    room: Callable[[Path], Room] = room
