"""The process behind a folder: who writes into it or was told to, what it printed to, and the GPU memory that it holds (Linux's /proc).

Only processes of this user can be looked into; in another container or on another machine there is nobody to be seen.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine import gpu, machine

PROC: Final = Path("/proc")
WRITING: Final = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Process:
    """A live process; `started` in clock ticks since boot tells it from a later one with its pid, `command` is for people."""

    pid: int
    started: int
    command: str

    @property
    def alive(self) -> bool:
        """Whether it is still there; a zombie is not."""
        return machine.started(self.pid) == self.started

    @property
    def since(self) -> float:
        """When it was started, in seconds since the epoch."""
        boot = next(line for line in (PROC / "stat").read_text().splitlines() if line.startswith("btime "))
        return int(boot.split()[1]) + self.started / os.sysconf("SC_CLK_TCK")


def process(pid: int) -> Process | None:
    """The process with this pid; None where there is none."""
    started = machine.started(pid)
    return None if started is None else Process(pid, started, shlex.join(_words(pid)))


def behind(folder: Path) -> tuple[Process, ...]:
    """The Python programs that have a file in `folder` open to write, or were given the folder on their command line.

    Of a launcher and its workers only the launcher; of several programs all, for a person to choose.
    """
    folder = folder.resolve()
    own = _with_parents(os.getpid())
    found = {pid for pid in _pids() if pid not in own and _is_python(pid) and _is_behind(pid, folder)}
    tops = [pid for pid in sorted(found) if not found & set(_parents(pid))]
    return tuple(each for pid in tops if (each := process(pid)) is not None)


def printed_to(pid: int) -> Path | None:
    """The file that a process's output goes to; None for a terminal or a pipe, or where that is not to be seen."""
    for number in (1, 2):
        try:
            path = (PROC / str(pid) / "fd" / str(number)).readlink()
            if path.is_file():
                return path
        except OSError:
            continue
    return None


def written(pid: int) -> set[Path]:
    """The files that a process and its children have open to write: trackers may keep theirs anywhere."""
    return {path for each in (pid, *_children(pid)) for path in _open_to_write(each)}


def gpu_mib(pid: int) -> dict[str, float]:
    """What a process and its children hold on each GPU in MiB, by the card's name; empty where the driver knows none of them.

    In a container the driver's process ids are not ours.
    """
    family = {pid, *_children(pid)}
    held: dict[str, float] = {}
    for card in gpu.gpus():
        if mib := sum(holder.mib for holder in gpu.holders(card.uuid) if holder.pid in family):
            held[f"{card.index} {card.name}"] = mib
    return held


def _pids() -> Iterator[int]:
    return (int(each.name) for each in PROC.iterdir() if each.name.isdigit())


def _words(pid: int) -> list[str]:
    """Its command line; empty where it is gone, not ours, or a kernel's."""
    try:
        return [os.fsdecode(word) for word in (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")[:-1]]
    except OSError:
        return []


def _is_python(pid: int) -> bool:
    """Whether it runs Python, Workbench's own command line left out: another watch names the folder too."""
    words = _words(pid)
    if not words or not Path(words[0]).name.startswith("python"):
        return False
    return not any(Path(word).name == "workbench" for word in words[1:3])


def _is_behind(pid: int, folder: Path) -> bool:
    return any(path.is_relative_to(folder) for path in _open_to_write(pid)) or _was_told(pid, folder)


def _open_to_write(pid: int) -> Iterator[Path]:
    try:
        links = list((PROC / str(pid) / "fd").iterdir())
    except OSError:  # gone meanwhile, or another user's
        return
    for link in links:
        try:
            path = link.readlink()
            flags = next(line for line in _info(pid, link.name) if line.startswith("flags:"))
        except (OSError, StopIteration):  # closed meanwhile
            continue
        if int(flags.split()[1], 8) & WRITING:
            yield path


def _info(pid: int, number: str) -> list[str]:
    return (PROC / str(pid) / "fdinfo" / number).read_text().splitlines()


def _was_told(pid: int, folder: Path) -> bool:
    """Whether a word of its command line names the folder, as in `--output_dir out` or `--output_dir=out`."""
    try:
        here = (PROC / str(pid) / "cwd").readlink()
    except OSError:
        return False
    parts = {part for word in _words(pid)[1:] for part in (word, word.partition("=")[2]) if part}
    return any(os.path.normpath(here / part) == str(folder) for part in parts)


def _parent(pid: int) -> int:
    try:
        stat = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[1])


def _parents(pid: int) -> Iterator[int]:
    while pid := _parent(pid):
        yield pid


def _with_parents(pid: int) -> Collection[int]:
    return {pid, *_parents(pid)}


def _children(pid: int) -> set[int]:
    """All processes below it."""
    return {each for each in _pids() if pid in _parents(each)}
