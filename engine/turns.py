"""Whose turn it is on a GPU: machine-wide file locks, so that a queue needs no daemon and no open screen.

A job started at once shares its GPUs' locks with others like it; a queued one waits until nobody stands before it in its ledger's queue, it
has the locks alone, and its predicted memory is free and stays so. All of it happens before torch is imported, so waiting costs next to
nothing. Locks are taken all or none, always in the same order: jobs that need several GPUs cannot lock each other out. They end with
their process, however it ends. CPU jobs queue for a lock named cpu.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from engine.errors import Problem
from engine.gpu import gpus, holders, named, user, why_none
from engine.profile import Hardware

CPU: Final = "cpu"
# Looks in a row at which the memory must be free: another job may only be between two allocations.
QUIET_LOOKS: Final = 5
LIKE: Final = 0.99  # of a GPU's memory that another must have to do as well
Places = tuple[str, ...]
"""What a job needs at the same time: UUIDs of GPUs, or `cpu`."""


def places(hardware: Hardware) -> Places:
    """What a job with this profile takes; of a GPU that is not named, the first.

    Raises:
        Problem: a GPU that is named, or any at all, is not there.
    """
    if hardware.device == "cpu":
        return (CPU,)
    seen = gpus()
    if not seen:
        if hardware.device == "auto" and hardware.gpus == "auto":
            return (CPU,)
        raise Problem(
            "There is no GPU for this run", why_none(), "To train without one, set hardware.device = cpu", code="gpu"
        )
    if hardware.gpus == "auto" or not hardware.gpus:
        return (seen[0].uuid,)
    return tuple(named(str(name), seen).uuid for name in hardware.gpus)


def alike(chosen: str) -> Places:
    """The GPU that was chosen and those that would do as well, having no less memory: a run that names none takes the first to be free."""
    seen = gpus()
    least = next((gpu.total_mib for gpu in seen if gpu.uuid == chosen), None)
    others = [gpu.uuid for gpu in seen if gpu.uuid != chosen and least and (gpu.total_mib or 0.0) >= LIKE * least]
    return (chosen, *others)


def _nobody(_: Places) -> str:
    return ""


def process(pid: int) -> str:
    """A process in words: `process 41 of alice`."""
    owner = user(pid)
    return f"process {pid}{f' of {owner}' if owner else ''}"


@contextmanager
def turn(
    options: Sequence[Places],
    *,
    queue: bool,
    wait: Callable[[str], None],
    ahead: Callable[[Places], str] = _nobody,
    who: Callable[[int], str] = process,
    needs_mib: float | None = None,
) -> Iterator[Places]:
    """Hold the locks of one of `options` for as long as the context lasts, and say which.

    Queued, it is waited for; `wait` is called about once a second with what is waited for, sleeps, and may raise to give up. `ahead` says
    what stands before this job in its queue and wants one of these places, `who` what a process is called. Each GPU must have `needs_mib`
    free. Not queued, the first option's locks are shared with others like it, and done without where a queued job holds them: now means now.
    """
    with ExitStack() as held:
        if not queue:
            for place in sorted(options[0]):
                _lock(_opened(place, held), fcntl.LOCK_SH)
            yield options[0]
            return
        while True:
            reasons = []
            for option in options:
                if not (reason := _taken(option, held, wait, ahead, who, needs_mib)):
                    yield option
                    return
                held.close()
                reasons.append(reason)
            wait(reasons[0])


def _taken(
    option: Places,
    held: ExitStack,
    wait: Callable[[str], None],
    ahead: Callable[[Places], str],
    who: Callable[[int], str],
    needs_mib: float | None,
) -> str:
    """Take the locks of `option` and see that its memory stays free; why that cannot be now, empty when it is done."""
    if before := ahead(option):
        return f"waiting behind {before}"
    for place in sorted(option):
        if not _lock(_opened(place, held), fcntl.LOCK_EX):
            by = _holder(place)
            return f"waiting for {_called(place)}{f': {who(by)} has it' if by else ''}"
    if needs_mib is None or option == (CPU,):
        return ""
    for _ in range(QUIET_LOOKS):
        if reason := _short_of_memory(option, needs_mib):
            return reason
        wait("seeing whether the GPU's memory stays free")
    return _short_of_memory(option, needs_mib)


def _short_of_memory(option: Places, needs_mib: float) -> str:
    """The first GPU on which too little is free, and who holds the rest; empty if there is none."""
    for gpu in gpus():
        if gpu.uuid in option and gpu.free_mib is not None and gpu.free_mib < needs_mib:
            by = ", ".join(f"{process(each.pid)} holds {each.mib:,.0f}" for each in holders(gpu.uuid)[:3])
            free = f"{needs_mib:,.0f} MiB to be free on GPU {gpu.index}, {gpu.free_mib:,.0f} are"
            return f"waiting for {free}{f': {by}' if by else ''}"
    return ""


def _called(place: str) -> str:
    index = next((gpu.index for gpu in gpus() if gpu.uuid == place), None) if place != CPU else None
    return "the CPU" if place == CPU else f"GPU {place if index is None else index}"


def show_only(taken: Places) -> None:
    """Let torch see these GPUs and no others, and use their memory well; must run before torch is imported."""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if taken == (CPU,) else ",".join(taken)
    # Rows of ever other lengths leave gaps in torch's cache that are too small for the next: segments that grow leave fewer.
    # https://docs.pytorch.org/docs/stable/notes/cuda.html#optimizing-memory-usage-with-pytorch-alloc-conf; not under WSL, which lacks it.
    asked = {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & set(os.environ)
    if not asked and "microsoft" not in os.uname().release:
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(place: str) -> int | None:
    """The process that holds a place's lock, as the kernel says (proc_locks(5)); None where it is not to be seen from here."""
    inode = str(_path(place).stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        _, kind, _, _, pid, file, *_ = line.replace("-> ", "").split()
        if kind == "FLOCK" and file.rpartition(":")[2] == inode and int(pid) > 0:
            return int(pid)
    return None


def _path(place: str) -> Path:
    return Path(tempfile.gettempdir()) / "workbench-gpus" / f"{place}.lock"


def _opened(place: str, held: ExitStack) -> int:
    """The lock file, shared by all users of the machine: whoever comes first makes it readable for everybody. Closed with `held`."""
    path = _path(place)
    try:
        if not path.parent.exists():
            path.parent.mkdir(exist_ok=True)
            path.parent.chmod(0o1777)
        if not path.exists():
            path.touch(exist_ok=True)
            path.chmod(0o666)
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # flock needs no right to write
    except OSError as error:
        raise Problem(
            f"Cannot take a turn at {path}",
            f"{error.strerror}.",
            "Set TMPDIR to a folder you can write to.",
            code="gpu",
        ) from error
    held.callback(os.close, handle)
    return handle
