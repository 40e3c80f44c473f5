"""One run out of several sources: of a point that several have, that of the best counts, and only what is new is written.

The ledger is the memory: what stands there already is not written again, so a watch that was killed goes on without duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from engine.ledger import Ledger, metrics, sealing
from engine.ledger.exchange.imported import Points
from engine.ledger.packing import Packer, Row

Source = Literal["tensorboard", "wandb", "trainer", "text"]
BEST_FIRST: Final[tuple[Source, ...]] = ("tensorboard", "wandb", "trainer", "text")
"""Trackers know the time of each point; Trainer's state comes with a checkpoint and has no times; printed figures are rounded."""

TIMED: Final[frozenset[Source]] = frozenset({"tensorboard", "wandb"})
SAME_TIME: Final = 1.0  # seconds: the metrics of a step lie in one row, a few milliseconds after one another
CHUNK: Final = 4096  # rows of a transaction


class Combining:
    """Writes one run's points, from whatever source."""

    def __init__(self, ledger: Ledger, run: int) -> None:
        self._ledger = ledger
        self._run = run
        self._packer = Packer(run)
        self._held: dict[tuple[Source, str], NDArray[np.int64]] = {}
        self._unsealed = 0

    def add(self, source: Source, points: Mapping[str, Points]) -> None:
        """Write what no better source has and the ledger has not, or has otherwise.

        Raises:
            Problem: the ledger cannot be written; the same points may be given again.
        """
        rows: dict[int, dict[str, tuple[float, float]]] = {}
        for key, given in points.items():
            for step, time, value in self._fresh(source, key, given):
                rows.setdefault(step, {})[key] = (time, value)
        steps = sorted(rows)
        for start in range(0, len(steps), CHUNK):
            self._write([_row(step, rows[step]) for step in steps[start : start + CHUNK]])
        for key, given in points.items():
            self._held[source, key] = np.union1d(self._held.get((source, key), _NONE), given.steps)

    def seal(self) -> None:
        """Nothing more is expected for now: what gathered in the tail becomes segments.

        Raises:
            Problem: the ledger cannot be written.
        """
        if self._unsealed:
            with self._ledger.transaction() as connection:
                sealing.seal(connection, self._run)
            self._unsealed = 0

    def _fresh(self, source: Source, key: str, given: Points) -> list[tuple[int, float, float]]:
        """Step, time and value of the points that are to be written."""
        wanted = np.ones(len(given.steps), bool)
        for better in BEST_FIRST[: BEST_FIRST.index(source)]:
            wanted &= ~np.isin(given.steps, self._held.get((better, key), _NONE))
        there = metrics.curve(self._ledger, self._run, key)
        at = np.searchsorted(there.steps, given.steps)
        inside = at < len(there.steps)
        stands = np.zeros(len(given.steps), bool)
        found = at[inside]
        same_step = there.steps[found] == given.steps[inside]
        stands[inside] = same_step & _equal(there.values[found], given.values[inside])
        if source in TIMED:
            stands[inside] &= np.abs(there.times[found] - given.times[inside]) < SAME_TIME
        wanted &= ~stands
        columns = (given.steps[wanted].tolist(), given.times[wanted].tolist(), given.values[wanted].tolist())
        return list(zip(*columns, strict=True))

    def _write(self, rows: list[Row]) -> None:
        self._unsealed += len(rows)
        try:
            with self._ledger.transaction() as connection:
                self._packer.write(connection, rows)
                if self._unsealed >= sealing.SEGMENT:
                    sealing.seal(connection, self._run)
        except BaseException:
            self._packer.forget()  # ids made in a transaction that was rolled back are none
            raise
        if self._unsealed >= sealing.SEGMENT:
            self._unsealed = 0


_NONE: Final[NDArray[np.int64]] = np.empty(0, np.int64)


def _equal(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Equal numbers, or gaps of one kind."""
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))


def _row(step: int, values: Mapping[str, tuple[float, float]]) -> Row:
    """The values of a step in a fixed order, so that the same keys are one key set, at the time of the last."""
    names = tuple(sorted(values))
    return Row(0, step, max(values[name][0] for name in names), names, tuple(values[name][1] for name in names))
