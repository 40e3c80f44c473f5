"""When the steps of a training ended, and what they did: the same notes for all trainers that are compared."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch


@dataclass
class Marks:
    """One entry a step: the clock and the process's CPU time at its end, its supervised tokens and its loss."""

    clock: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    supervised: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def note(self) -> None:
        """A step has ended, on a GPU too."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        self.clock.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def tokens_per_second(self, warm_up: int) -> float:
        """Supervised tokens a second of the steps after the first `warm_up`."""
        return sum(self.supervised[warm_up:]) / (self.clock[-1] - self.clock[warm_up - 1])

    def tokens_per_cpu_second(self, warm_up: int) -> float:
        """The same for a second of CPU time, which neighbours on the machine disturb less."""
        return sum(self.supervised[warm_up:]) / (self.cpu[-1] - self.cpu[warm_up - 1])

    def cpu_per_step(self, warm_up: int) -> float:
        """CPU seconds of this process, all its threads, a step after the first `warm_up`."""
        return (self.cpu[-1] - self.cpu[warm_up - 1]) / (len(self.cpu) - warm_up)
