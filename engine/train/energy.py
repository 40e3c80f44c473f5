"""Energy that a GPU takes: the driver's own counter where it has one, else its power over the time between two looks."""

from __future__ import annotations

import time
from typing import Final

from engine.gpu import energy_joules, first

LOOK_EVERY: Final = 1.0  # seconds between questions to the driver


class Energy:
    """Joules of the first visible GPU since this was made; of nothing on a CPU, and where the driver says neither energy nor power."""

    def __init__(self, *, watched: bool) -> None:
        gpu = first() if watched else None
        self._uuid = gpu.uuid if gpu else ""
        self._began = energy_joules(self._uuid) if gpu else None
        self._looked = time.monotonic()
        self._joules: float | None = 0.0 if self._began is not None or (gpu and gpu.watts is not None) else None

    def read(self) -> float | None:
        """So far; the driver is asked once a second."""
        now = time.monotonic()
        if self._joules is None or now - self._looked < LOOK_EVERY:
            return self._joules
        counted = energy_joules(self._uuid) if self._began is not None else None
        if counted is not None and self._began is not None:
            self._joules = counted - self._began
        elif self._began is None and (gpu := first()) and gpu.watts is not None:
            self._joules += gpu.watts * (now - self._looked)
        self._looked = now
        return self._joules
