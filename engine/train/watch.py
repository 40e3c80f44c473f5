"""What a run measures about itself and where it runs: times, environment."""

from __future__ import annotations

import os
import platform
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import torch

from engine import __version__
from engine.fit.question import Phase
from engine.gpu import MIB, first
from engine.train.memory import MemoryWatch
from engine.train.model import Loaded

PACKAGES: Final = ("torch", "transformers", "peft", "bitsandbytes", "tokenizers", "safetensors", "accelerate")
PHASES: Final = {"data": Phase.FORWARD, "forward": Phase.FORWARD, "backward": Phase.BACKWARD, "update": Phase.STEP}
"""What memory that is taken in a part of a step is taken for."""


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
        "capability": list(torch.cuda.get_device_capability(device)),
        "cuda": torch.version.cuda,
        "allocation": os.environ.get("PYTORCH_ALLOC_CONF") or os.environ.get("PYTORCH_CUDA_ALLOC_CONF") or "",
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
    """Seconds spent on the parts of a step, by name, and with them the memory that they took.

    A GPU works behind the program's back, so that its parts are only known when it is waited for; that costs a little and is done
    only when `exact`.
    """

    def __init__(self, device: torch.device, *, exact: bool, memory: MemoryWatch | None = None) -> None:
        self.laps: dict[str, float] = {}
        self.exact = exact or device.type == "cpu"
        self.computed = 0  # tokens that the device had to compute, padding among them
        self._memory = memory
        self._waits = exact and device.type == "cuda"
        self._started = self._since = time.perf_counter()

    def lap(self, part: str) -> None:
        """Book time and memory since the last lap on `part`."""
        if self._memory:
            self._memory.lap(PHASES[part])
        if self._waits:
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.laps[part] = self.laps.get(part, 0.0) + now - self._since
        self._since = now

    @property
    def seconds(self) -> float:
        """Since the clock was made."""
        return time.perf_counter() - self._started
