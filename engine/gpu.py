"""What GPUs there are and what they are doing, asked of NVIDIA's driver through NVML.

Every figure is asked for alone: one that the driver does not answer is None and the rest stand. A GPU that is divided (MIG) is as many GPUs as
it has slices. Only those that CUDA_VISIBLE_DEVICES leaves are seen. Without NVML there are none, and `why_none` says why.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from pwd import getpwuid
from typing import Any, Final, TypeVar

import pynvml

from engine.errors import Problem, closest

T = TypeVar("T")
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Gpu:
    """One GPU now; None is what the driver did not answer.

    `index` is NVML's (and nvidia-smi's), in the order of the PCI bus; slices of one GPU share it. Memory is in MiB as the driver counts it: `mine_mib` is held by
    processes of this user, `own_mib` by this very process, `others_mib` is the rest of what is used. In a container whose process
    ids the driver does not know, all of it counts as others'. `capability` is CUDA's version of what it can do.
    """

    uuid: str
    index: int
    name: str
    total_mib: float | None = None
    used_mib: float | None = None
    free_mib: float | None = None
    mine_mib: float | None = None
    own_mib: float | None = None
    others_mib: float | None = None
    watts: float | None = None
    celsius: int | None = None
    busy_percent: int | None = None
    driver: str | None = None
    capability: tuple[int, int] | None = None


@dataclass(frozen=True)
class Holder:
    """A process that holds memory on a GPU; `user` is empty where it is not visible from here (another container's)."""

    pid: int
    user: str
    mib: float


_guard = threading.Lock()
_ready = False


def gpus() -> tuple[Gpu, ...]:
    """The visible GPUs in the order of CUDA_VISIBLE_DEVICES, or of the bus; empty where there are none (`why_none`)."""
    if _start():
        return ()
    driver = _ask(pynvml.nvmlSystemGetDriverVersion)
    found = [gpu for index in range(_ask(pynvml.nvmlDeviceGetCount) or 0) for gpu in _seen(index, driver)]
    # Only those are asked further: each answer takes a while, and eight ranks of a machine's eight GPUs ask every second.
    return tuple(map(_read, visible(found, os.environ.get("CUDA_VISIBLE_DEVICES"))))


def why_none() -> str:
    """Why `gpus` is empty, as a sentence; empty when it is not."""
    if failure := _start():
        return failure
    if gpus():
        return ""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = _ask(pynvml.nvmlDeviceGetCount) or 0
    if not count:
        return "The NVIDIA driver is there, but it sees no GPU."
    return f"CUDA_VISIBLE_DEVICES={chosen!r} hides the {count} GPU{'s' if count > 1 else ''} of this machine."


def visible(found: list[Gpu], chosen: str | None) -> tuple[Gpu, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order: indices or beginnings of UUIDs; all behind the first wrong one are hidden.

    See https://docs.nvidia.com/cuda/cuda-c-programming-guide/#env-vars. Indices are taken in bus order (CUDA_DEVICE_ORDER=PCI_BUS_ID); of a
    GPU in slices an index means the first.
    """
    if chosen is None:
        return tuple(found)
    kept: list[Gpu] = []
    for word in map(str.strip, chosen.split(",")):
        of_index = [gpu for gpu in found if word.isdigit() and gpu.index == int(word)]
        matching = of_index[:1] or [gpu for gpu in found if _is_uuid_of(word, gpu)]
        if len(matching) != 1:
            break
        if matching[0] in kept:
            return ()  # CUDA sees no GPU at all when one is named twice
        kept += matching
    return tuple(kept)


def _is_uuid_of(word: str, gpu: Gpu) -> bool:
    return word.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(word)


def _start() -> str:
    """Open NVML once a process; why it cannot be opened, else nothing."""
    global _ready
    with _guard:
        if _ready:
            return ""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError_LibraryNotFound:
            return "There is no NVIDIA driver on this machine (libnvidia-ml.so.1 was not found)."
        except pynvml.NVMLError as error:
            return f"The NVIDIA driver does not answer: {error}."
        _ready = True
        return ""


def _ask(question: Callable[..., T], *arguments: object) -> T | None:
    """The driver's answer, or None where it has none."""
    try:
        return question(*arguments)
    except pynvml.NVMLError:
        return None


def _seen(index: int, driver: str | None) -> list[Gpu]:
    """Which GPU it is, or which slices it is divided into."""
    handle: Any = _ask(pynvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return [Gpu(uuid=str(index), index=index, name="does not answer", driver=driver)]
    return [_named(each, index, driver) for each in _slices(handle) or [handle]]


def _slices(handle: object) -> list[object]:
    """The slices of a GPU that is divided (MIG); none for a whole one, and for one whose slices nobody has made yet."""
    mode = _ask(pynvml.nvmlDeviceGetMigMode, handle)
    if not mode or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return []
    most = _ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    found = [_ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, place) for place in range(most)]
    return [each for each in found if each is not None]


def _named(handle: object, index: int, driver: str | None) -> Gpu:
    name = _ask(pynvml.nvmlDeviceGetName, handle) or "unknown GPU"
    uuid = _ask(pynvml.nvmlDeviceGetUUID, handle) or str(index)
    return Gpu(uuid=uuid, index=index, name=name.removeprefix("NVIDIA "), driver=driver)


def _read(gpu: Gpu) -> Gpu:
    """The same with what it is doing."""
    by_uuid = gpu.uuid.startswith("MIG-")
    handle: Any = (
        _ask(pynvml.nvmlDeviceGetHandleByUUID, gpu.uuid)
        if by_uuid
        else _ask(pynvml.nvmlDeviceGetHandleByIndex, gpu.index)
    )
    if handle is None:
        return gpu
    # Version 2 keeps apart what the driver reserves for itself; drivers before 510 know only version 1.
    memory: Any = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2) or _ask(
        pynvml.nvmlDeviceGetMemoryInfo, handle
    )
    used = memory.used / MIB if memory else None
    mine = _held_mib(handle, _is_mine)
    watts = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
    rates: Any = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    return replace(
        gpu,
        total_mib=memory.total / MIB if memory else None,
        used_mib=used,
        free_mib=memory.free / MIB if memory else None,
        mine_mib=mine,
        own_mib=_held_mib(handle, lambda pid: pid == os.getpid()),
        others_mib=max(0.0, used - mine) if used is not None and mine is not None else None,
        watts=watts / 1000 if watts is not None else None,
        celsius=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        busy_percent=rates.gpu if rates else None,
        capability=_ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle),
    )


def first() -> Gpu | None:
    """The GPU that this process computes on: the first that it may see."""
    return next(iter(gpus()), None)


def short_names(names: Sequence[str]) -> str:
    """What a run was trained on, as a table says it: `H200`, `2x RTX 4090`, `A100 80GB, H200`, `cpu` for no GPU. `names` as CUDA has them."""
    counted = Counter(
        " ".join(piece for piece in re.split(r"[ -]", name) if not _FILLING.fullmatch(piece)) for name in names
    )
    return ", ".join(f"{count}x {name}" if count > 1 else name for name, count in counted.items()) or "cpu"


_FILLING: Final = re.compile(
    r"NVIDIA|GeForce|Tesla|Generation|SXM\d*|HBM\d*e?|PCIe", re.IGNORECASE
)  # who makes it, and how it is fitted


def named(name: str, there: Sequence[Gpu]) -> Gpu:
    """The one of these GPUs that a profile names by its index, its UUID or the UUID's beginning (8 characters or more).

    Raises:
        Problem: none is (code `gpu`).
    """
    for found in there:
        if name in (str(found.index), found.uuid) or (len(name) >= 8 and found.uuid.startswith(name)):
            return found
    known = [f"{found.index} ({found.name}, {found.uuid})" for found in there]
    raise Problem(
        f"There is no GPU {name}{closest(name, [found.uuid for found in there])}",
        f"Visible are {', '.join(known)}.",
        "Change hardware.gpus; CUDA_VISIBLE_DEVICES may hide others.",
        code="gpu",
    )


def energy_joules(uuid: str) -> float | None:
    """What a GPU has taken since its driver was loaded, in joules; None where it does not count (before Volta)."""
    handle = None if _start() else _ask(pynvml.nvmlDeviceGetHandleByUUID, uuid)
    counted = None if handle is None else _ask(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    return None if counted is None else counted / 1000


def holders(uuid: str) -> tuple[Holder, ...]:
    """The processes that hold memory on a GPU, the largest first; none where the driver does not say."""
    handle = None if _start() else _ask(pynvml.nvmlDeviceGetHandleByUUID, uuid)
    processes = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) if handle else None
    found = [Holder(each.pid, user(each.pid), (each.usedGpuMemory or 0) / MIB) for each in processes or ()]
    return tuple(sorted(found, key=lambda holder: -holder.mib))


def user(pid: int) -> str:
    """Whose a process is; empty where that is not to be seen from here."""
    try:
        return getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name
    except (OSError, KeyError):
        return ""


def _held_mib(handle: object, counts: Callable[[int], bool]) -> float | None:
    """Memory on a GPU of the processes that count."""
    processes = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)
    if processes is None:
        return None
    return sum(process.usedGpuMemory or 0 for process in processes if counts(process.pid)) / MIB


def _is_mine(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}").stat().st_uid == os.getuid()
    except OSError:
        return False
