"""What a run measures about itself and where it runs: memory, times, environment."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import torch

from engine import __version__
from engine.gpu import MIB, Gpu, first
from engine.train.model import Loaded

PACKAGES: Final = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers", "safetensors", "accelerate")
LOOK_EVERY: Final = 1.0  # seconds between questions to the driver, which takes milliseconds to answer


@dataclass
class MemoryWatch:
    """Peaks since the last look in MiB, as torch and NVML mean them; on the CPU the process's resident memory."""

    device: torch.device
    peak_process_mib: float = 0.0
    _looked: float = field(default=0.0, repr=False)
    _process_mib: float = field(default=0.0, repr=False)

    def read(self) -> dict[str, float]:
        """The memory metrics of a step."""
        if time.monotonic() - self._looked > LOOK_EVERY:
            self._looked = time.monotonic()
            self._process_mib = _resident_mib() if self.device.type == "cpu" else held_mib(first(), self.device)
            self.peak_process_mib = max(self.peak_process_mib, self._process_mib)
        values = {"memory/process_mib": self._process_mib} if self._process_mib else {}
        if self.device.type == "cuda":
            values["memory/allocated_mib"] = torch.cuda.max_memory_allocated(self.device) / MIB
            values["memory/reserved_mib"] = torch.cuda.max_memory_reserved(self.device) / MIB
            torch.cuda.reset_peak_memory_stats(self.device)
        return values


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def held_mib(gpu: Gpu | None, device: torch.device) -> float:
    """What this process holds on the GPU in MiB; where the driver does not know it by its pid (containers), what torch reserved."""
    own = gpu.own_mib if gpu else None
    return own or torch.cuda.memory_reserved(device) / MIB


def environment(loaded: Loaded, thread_count: int) -> dict[str, object]:
    """What the numbers of a run may depend on, and what it is made of."""
    return {
        "workbench": __version__,
        "python": platform.python_version(),
        "packages": packages(),
        "host": platform.node(),
        "kernel": platform.release(),
        "cpu": _cpu(),
        "threads": thread_count,
        "device": _device(loaded.device),
        "parameters": {"trainable": loaded.trainable, "total": loaded.total},
    }


def packages() -> dict[str, str]:
    """Versions of what computes, as far as it is installed."""
    return {name: found for name in PACKAGES if (found := _version(name))}


def _device(device: torch.device) -> dict[str, object]:
    if device.type == "cpu":
        return {"type": "cpu"}
    gpu = first()
    return {
        "type": device.type,
        "name": torch.cuda.get_device_name(device),
        "uuid": gpu.uuid if gpu else "",
        "driver": gpu.driver if gpu else "",
        "cuda": torch.version.cuda,
        "memory_mib": torch.cuda.get_device_properties(device).total_memory / MIB,
    }


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


class Clock:
    """Seconds spent on the parts of a step, by name.

    A GPU works behind the program's back, so that its parts are only known when it is waited for; that costs a little and is done
    only when `exact`.
    """

    def __init__(self, device: torch.device, *, exact: bool) -> None:
        self.laps: dict[str, float] = {}
        self.exact = exact or device.type == "cpu"
        self.computed = 0  # tokens that the device had to compute, padding among them
        self._waits = exact and device.type == "cuda"
        self._started = self._since = time.perf_counter()

    def lap(self, part: str) -> None:
        """Book the time since the last lap on `part`."""
        if self._waits:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.laps[part] = self.laps.get(part, 0.0) + now - self._since
        self._since = now

    @property
    def seconds(self) -> float:
        """Since the clock was made."""
        return time.perf_counter() - self._started
