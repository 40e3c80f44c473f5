"""What other processes hold on the GPU that a run trains on, against what they held when it began."""

from __future__ import annotations

import os
from typing import Final

import torch

from engine.gpu import Gpu, first, holders
from engine.train.memory import held_mib

GREW: Final = 256.0  # MiB; less is noise: the driver's own share differs from one look to the next


class Neighbours:
    """Other people's processes, and other runs of one's own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stood = self._others_mib()

    @property
    def grew(self) -> bool:
        """Whether they hold more than at the beginning; never on the CPU, or where the driver does not say."""
        return self._others_mib() - self._stood > GREW

    def named(self) -> str:
        """Whose they are: `process 4242 of alice with 3.1 GiB`, the largest first."""
        gpu = self._gpu()
        others = [holder for holder in holders(gpu.uuid) if holder.pid != os.getpid()] if gpu else []
        words = [
            f"process {holder.pid}{f' of {holder.user}' if holder.user else ''} with {holder.mib / 1024:.1f} GiB"
            for holder in others[:3]
        ]
        return ", ".join(words) or "a process that the driver does not name"

    def _gpu(self) -> Gpu | None:
        return first() if self._device.type == "cuda" else None

    def _others_mib(self) -> float:
        gpu = self._gpu()
        return 0.0 if gpu is None or gpu.used_mib is None else gpu.used_mib - held_mib(gpu, self._device)
