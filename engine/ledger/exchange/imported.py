"""A run as somebody else's files tell of it: what every reader of them gives.

A reader looks at a growing source: the first `read` gives all that is whole by then, each later one what was added since. What
is half-written waits and is never guessed at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.ledger.states import State

Kind = Literal["tensorboard", "wandb", "trackio", "trainer", "csv", "jsonl", "parquet"]


@dataclass(frozen=True)
class Points:
    """One metric: equal-length columns by rising step, one point a step; times in seconds since the epoch, to the millisecond."""

    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Imported:
    """What a source tells of a run.

    `uid` is the same whenever the same run is read again (`uid_of`). `state` is None where the source does not tell how the run
    ended or whether it has; `steps` is how many it was to do; `settings` are flat, by dotted key, without secrets. `troubles`
    are sentences about what could not be read, `waiting` is how many bytes at the end are only half written yet.
    """

    uid: str
    kind: Kind
    path: Path
    name: str
    created: float  # seconds since the epoch
    points: Mapping[str, Points]
    settings: Mapping[str, object] = field(default_factory=dict)
    state: State | None = None
    cause: str = ""
    steps: int | None = None
    note: str = ""
    tags: tuple[str, ...] = ()
    sweep: str = ""
    gpu: str = ""
    environment: Mapping[str, object] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()
    waiting: int = 0

    @property
    def step(self) -> int:
        """The highest step that these points have; 0 without any."""
        return max((int(each.steps[-1]) for each in self.points.values() if len(each.steps)), default=0)


ENDED: Final = "train/train_runtime"
"""Logged once, when Hugging Face's Trainer has trained to its end."""


def uid_of(kind: Kind, *identity: object) -> str:
    """The run's uid in every ledger that it is imported into, made of what stays the same however often it is read."""
    return hashlib.sha256("\n".join(map(str, (kind, *identity))).encode()).hexdigest()[:12]


class Reader(Protocol):
    """One run of a source, followed as it grows."""

    path: Path
    kind: Kind

    def read(self) -> Imported | None:
        """What is known of the run, with at least the points that came since the last call; None while nothing whole is there.

        Raises:
            Problem: it is not what it was taken for, or can no longer be read.
        """
        ...


class Gathering:
    """Points as they are read, in any order: of one key at one step the last that came counts."""

    def __init__(self) -> None:
        self._points: dict[str, dict[int, tuple[float, float]]] = {}
        self._newest = self._ended = -1  # steps, of all that was ever added

    @property
    def state(self) -> State | None:
        """Finished where Trainer has said so and nothing came behind it."""
        return State.FINISHED if 0 <= self._newest <= self._ended else None

    def add(self, key: str, step: int, time: float, value: float) -> None:
        """One point; `time` in seconds since the epoch."""
        self._points.setdefault(key, {})[step] = (time, value)
        self._newest = max(self._newest, step)
        if key == ENDED:
            self._ended = step

    def add_all(self, step: int, time: float, values: Iterable[tuple[str, float]]) -> None:
        """Several keys at one step."""
        for key, value in values:
            self.add(key, step, time, value)

    def drop_from(self, step: int) -> None:
        """Forget what was gathered at `step` and behind it: the source went on from an earlier state."""
        for points in self._points.values():
            for each in [each for each in points if each >= step]:
                del points[each]

    def take(self) -> dict[str, Points]:
        """All points by key, and begin anew."""
        gathered, self._points = self._points, {}
        return {key: _points(points) for key, points in sorted(gathered.items()) if points}


def _points(points: Mapping[int, tuple[float, float]]) -> Points:
    steps = np.fromiter(points, np.int64, len(points))
    order = np.argsort(steps, kind="stable")
    both = np.array(list(points.values()), np.float64).reshape(-1, 2)[order]
    return Points(steps[order], np.round(both[:, 0], 3), both[:, 1])
