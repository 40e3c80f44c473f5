"""Whose turn it is on a GPU: machine-wide file locks, so that a queue needs no daemon and no open screen.

A job started at once shares its GPU's lock with others like it; a queued one waits until it has the lock alone, and for its predicted
memory to be free. Both happen before torch is imported, so waiting costs next to nothing. CPU jobs queue for a lock named cpu.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine.errors import Problem
from engine.gpu import gpus, why_none
from engine.profile import Hardware

CPU: Final = "cpu"
# Looks in a row at which the memory must be free: another job may only be between two allocations.
QUIET_LOOKS: Final = 5


def place(hardware: Hardware) -> str:
    """The UUID of the GPU that a job with this profile takes, or `cpu`.

    Raises:
        Problem: the GPU that is named, or any at all, is not there.
    """
    if hardware.device == "cpu":
        return CPU
    seen = gpus()
    if not seen:
        if hardware.device == "auto" and hardware.gpus == "auto":
            return CPU
        raise Problem(
            "There is no GPU for this run", why_none(), "To train without one, set hardware.device = cpu", code="gpu"
        )
    if hardware.gpus == "auto" or not hardware.gpus:
        return seen[0].uuid
    named = str(hardware.gpus[0])
    for gpu in seen:
        if gpu.uuid == named or str(gpu.index) == named:
            return gpu.uuid
    there = ", ".join(f"{gpu.index}: {gpu.name} {gpu.uuid}" for gpu in seen)
    raise Problem(f"There is no GPU {named} here", f"There are {there}.", "Change hardware.gpus.", code="gpu")


@contextmanager
def turn(where: str, *, queue: bool, wait: Callable[[str], None], needs_mib: float | None = None) -> Iterator[None]:
    """Hold the lock of `where` (from `place`) for as long as the context lasts.

    Queued, it is waited for; `wait` is called about once a second with what is waited for, sleeps, and may raise to give up. Not queued,
    the lock is shared with others like it, and done without where a queued job holds it: now means now.
    """
    handle = _open(where)
    try:
        if queue:
            while not _lock(handle, fcntl.LOCK_EX):
                wait("waiting for the CPU" if where == CPU else "waiting for the GPU")
            if where != CPU and needs_mib is not None:
                _wait_for_memory(where, needs_mib, wait)
        else:
            _lock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def show_only(where: str) -> None:
    """Let torch see this GPU and no other; must run before torch is imported."""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if where == CPU else where


def _wait_for_memory(where: str, needs_mib: float, wait: Callable[[str], None]) -> None:
    quiet = 0
    while quiet < QUIET_LOOKS:
        free = next((gpu.free_mib for gpu in gpus() if gpu.uuid == where), None)
        quiet = quiet + 1 if free is None or free >= needs_mib else 0
        wait(f"waiting for {needs_mib:,.0f} MiB of GPU memory to be free")


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(where: str) -> int:
    """The lock file, shared by all users of the machine: whoever comes first makes it readable for everybody."""
    folder = Path(tempfile.gettempdir()) / "workbench-gpus"
    path = folder / f"{where}.lock"
    try:
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o1777)
        if not path.exists():
            path.touch(exist_ok=True)
            path.chmod(0o666)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # flock needs no right to write
    except OSError as error:
        raise Problem(
            f"Cannot take a turn at {path}",
            f"{error.strerror}.",
            "Set TMPDIR to a folder you can write to.",
            code="gpu",
        ) from error
