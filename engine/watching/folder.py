"""What lies in a folder that somebody trains into: event files, wandb's offline runs, checkpoints, files of output.

Looked at every few seconds, so it goes three folders deep and not into what no tracker writes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEPTH: Final = 3  # of runs/Nov20_15-06-56_host in a folder of runs
CHECKPOINT: Final = re.compile(r"^checkpoint-(\d+)$")
OUTPUT: Final = (".log", ".out", ".txt")
HOST: Final = re.compile(r"tfevents\.\d+\.(.+?)(?:\.\d+\.\d+)?$")  # events.out.tfevents.TIME.HOST, then perhaps .PID.N
STATE: Final = "trainer_state.json"


@dataclass(frozen=True)
class Lying:
    """What there is, each in the order in which it was begun: folders of event files, `.wandb` files, checkpoint folders by step,
    files that may be output.
    """

    events: tuple[Path, ...] = ()
    wandb: tuple[Path, ...] = ()
    checkpoints: tuple[Path, ...] = ()
    texts: tuple[Path, ...] = ()

    @property
    def states(self) -> list[Path]:
        """The states that Trainer saved, the newest first; that one may be half written."""
        found = [file for each in self.checkpoints if (file := each / STATE).is_file()]
        return sorted(found, key=lambda file: file.stat().st_mtime_ns, reverse=True)

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to follow."""
        return not (self.events or self.wandb or self.checkpoints or self.texts)


def look(folder: Path, elsewhere: Iterable[Path] = ()) -> Lying:
    """What lies in `folder` now, and trackers' files `elsewhere`. A folder that vanishes or may not be read holds nothing."""
    events: dict[Path, str] = {}
    wandb: list[Path] = []
    checkpoints: list[Path] = []
    texts: list[Path] = []
    for file in (*_files(folder, DEPTH), *elsewhere):
        if "tfevents." in file.name:
            events[file.parent] = min(file.name, events.get(file.parent, file.name))
        elif file.suffix == ".wandb":
            wandb.append(file)
        elif file.name == STATE:
            checkpoints.append(file.parent)
        elif file.suffix in OUTPUT and file.parent == folder:
            texts.append(file)
    return Lying(
        tuple(sorted(events, key=lambda each: events[each])),
        tuple(sorted(wandb, key=lambda file: file.parent.name)),
        tuple(sorted(checkpoints, key=step_of)),
        tuple(sorted(texts)),
    )


def is_tracked(file: Path) -> bool:
    """Whether a tracker that is understood writes this file."""
    return "tfevents." in file.name or file.suffix == ".wandb"


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint folder's name; 0 for another folder."""
    found = CHECKPOINT.match(checkpoint.name)
    return int(found[1]) if found else 0


def host_of(events: Path) -> str:
    """The machine that wrote a folder of event files, as their names say; empty where they do not."""
    for file in sorted(events.glob("*tfevents.*")):
        if found := HOST.search(file.name):
            return found[1]
    return ""


def _files(folder: Path, deeper: int) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_file():
            yield Path(entry.path)
        elif entry.is_dir(follow_symlinks=False) and deeper and not entry.name.startswith("."):
            yield from _files(Path(entry.path), 0 if CHECKPOINT.match(entry.name) else deeper - 1)
