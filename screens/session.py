"""What every screen works on: one ledger, the folder for new runs, and what is asked of the machine around them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine import machine
from engine.gpu import Gpu, gpus
from engine.ledger import Ledger
from engine.storage import free_bytes

if TYPE_CHECKING:
    from engine.fit.simulator import Simulator


@dataclass(frozen=True)
class Room:
    """Free bytes on a folder's disk (None: it does not answer), bytes of this machine's memory in use and in all."""

    disk_free: int | None
    ram_used: int
    ram_total: int


def room(folder: Path) -> Room:
    """As it is now; for a folder that is gone, on the disk where it was."""
    try:
        free = free_bytes(folder)
    except OSError:
        free = None
    total, available = machine.memory()
    return Room(free, total - available, total)


@dataclass(frozen=True)
class View:
    """How a person last looked at the table of runs. Columns and what it is sorted and grouped by are named as in the filter.

    Without `columns` there are those that tell most, as many as fit.
    """

    columns: tuple[str, ...] = ()
    sort: str = "age"
    descending: bool = False
    group: str = ""


@dataclass(frozen=True)
class Session:
    """`clock` (seconds since the epoch), `gpus` and `room` are asked, never the machine itself: a picture can be taken of fixed ones.

    `simulator` gives the one that lives as long as the application, made when it is first wanted; without it memory is estimated by formulas.
    """

    ledger: Ledger
    runs_folder: Path
    clock: Callable[[], float] = time.time
    gpus: Callable[[], tuple[Gpu, ...]] = gpus
    room: Callable[[Path], Room] = room
    view: View = View()
    simulator: Callable[[], Simulator] | None = None
