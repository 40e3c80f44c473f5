"""What memory a run's process takes while it trains: as torch counts it on a GPU, phase by phase, and as driver or kernel count the process."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import torch

from engine.fit.question import Phase
from engine.fit.recorded import Figures
from engine.gpu import MIB, Gpu, first

LOOK_EVERY: Final = 1.0  # seconds between questions to the driver, which takes milliseconds to answer


class MemoryWatch:
    """Peaks in MiB. Torch's allocator works as the program does and not as the GPU does, so phases are told apart without waiting for it."""

    def __init__(
        self, device: torch.device, *, context_mib: float | None = None, before: Figures | None = None
    ) -> None:
        """`context_mib` is what CUDA holds besides torch, where it was measured; `before` is what a resumed run took until now.

        To be made before the model is loaded: on a CPU what the process holds then stands for the libraries.
        """
        self.device = device
        self.process_mib = 0.0
        self.peak_process_mib = before.process_mib or 0.0 if before else 0.0
        self._source = before.source if before else ""
        self._context_mib = _resident_mib()[0] if device.type == "cpu" else context_mib
        self._phases: dict[str, tuple[float, float]] = dict(before.phases) if before else {}
        self._since = (0.0, 0.0)  # peaks of the laps since the last `read`
        self._looked = -LOOK_EVERY

    def lap(self, phase: Phase) -> None:
        """Book the peaks since the last lap on `phase`; on a CPU torch counts none."""
        if self.device.type != "cuda":
            return
        peaks = self._taken()
        self._phases[phase] = _higher(self._phases.get(phase, (0.0, 0.0)), peaks)
        self._since = _higher(self._since, peaks)

    def forget(self) -> None:
        """Leave out what was taken since the last lap: it did not fit, and was not what the run needs."""
        if self.device.type == "cuda":
            self._taken()

    def look(self) -> None:
        """Ask the driver, or the kernel, what this process holds."""
        self._looked = time.monotonic()
        if self.device.type == "cuda":
            self.process_mib, self._source = self._held()
            self.peak_process_mib = max(self.peak_process_mib, self.process_mib)
        else:
            self._source = "resident"
            self.process_mib, peak = _resident_mib()
            self.peak_process_mib = max(self.peak_process_mib, peak)

    def read(self) -> dict[str, float]:
        """The memory metrics of a step; the driver is asked once a second."""
        if time.monotonic() - self._looked > LOOK_EVERY:
            self.look()
        values = {"memory/process_mib": self.process_mib} if self.process_mib else {}
        if self.device.type == "cuda":
            values["memory/allocated_mib"], values["memory/reserved_mib"] = self._since
            self._since = (0.0, 0.0)
        return values

    def figures(self) -> Figures:
        """All of it so far."""
        allocated = max((pair[0] for pair in self._phases.values()), default=None)
        reserved = max((pair[1] for pair in self._phases.values()), default=None)
        process = self.peak_process_mib or None
        context = process - reserved if process and reserved and self._source == "driver" else self._context_mib
        return Figures(self._source, allocated, reserved, process, context, dict(self._phases))

    def _taken(self) -> tuple[float, float]:
        """What torch's allocator gave out and reserved at most since this was asked last; the count begins anew."""
        counted = torch.cuda.memory_stats_as_nested_dict(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return counted["allocated_bytes"]["all"]["peak"] / MIB, counted["reserved_bytes"]["all"]["peak"] / MIB

    def _held(self) -> tuple[float, str]:
        """What this process holds on the GPU, and who says so. In a container the driver may not know it by its pid."""
        gpu = first()
        if gpu and gpu.own_mib:
            return gpu.own_mib, "driver"
        if self._context_mib is None:
            return 0.0, ""
        return torch.cuda.memory_reserved(self.device) / MIB + self._context_mib, "context"


def held_mib(gpu: Gpu | None, device: torch.device) -> float:
    """What this process holds on the GPU in MiB; where the driver does not know it by its pid (containers), what torch reserved."""
    own = gpu.own_mib if gpu else None
    return own or torch.cuda.memory_reserved(device) / MIB


def _higher(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return max(one[0], other[0]), max(one[1], other[1])


def _resident_mib() -> tuple[float, float]:
    """This process's main memory now, and the most that it ever was; now alone where the kernel does not count that (see proc_pid_status(5))."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    now = pages * os.sysconf("SC_PAGE_SIZE") / MIB
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return now, max(now, int(line.split()[1]) / 1024)
    return now, now
