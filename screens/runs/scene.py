"""What the lines of the table are read against: the time, the settings, the baselines, the queue, and who leads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from engine.ledger import facts
from engine.ledger.best import higher_is_better
from engine.ledger.facts import LOSS, Value
from engine.ledger.table import Row, Settings

VERSUS: Final = "versus"
"""The name of what a run's best validation loss is above or below its baseline's, as a share of that."""

UNKNOWN: Final[Settings] = {}


@dataclass(frozen=True, eq=False)
class Scene:
    """`now` in seconds since the epoch; `settings` by row id, as far as they have been read; `baselines` by what may be compared with them;
    `leaders` are the ids of runs with the lowest validation loss of those they may be compared with, `places` theirs in the queue.
    """

    now: float = 0.0
    settings: Mapping[int, Settings] = field(default_factory=dict)
    baselines: Mapping[str, Row] = field(default_factory=dict)
    leaders: AbstractSet[int] = frozenset()
    places: Mapping[int, int] = field(default_factory=dict)
    _askers: dict[str, Callable[[Row], Value]] = field(default_factory=dict, repr=False)

    def value(self, row: Row, name: str) -> Value:
        """What a column or the filter has for a run under this name; None where it has no such thing."""
        return self.asker(name)(row)

    def asker(self, name: str) -> Callable[[Row], Value]:
        """`value` of one name, for thousands of runs."""
        if (known := self._askers.get(name)) is None:
            known = self._askers[name] = self._asker(name)
        return known

    def _asker(self, name: str) -> Callable[[Row], Value]:
        if name == VERSUS:
            return self._versus
        settings, now = self.settings, self.now
        if (asked := facts.metric(name)) is not None:
            key, part = asked[0], facts.PARTS[asked[1]]
            return lambda row: part(row.metrics[key]) if key in row.metrics else None
        if "." in name:  # a setting's full name, which needs no search
            return lambda row: _plain(settings.get(row.id, UNKNOWN).get(name))
        return lambda row: facts.fact(row, settings.get(row.id, UNKNOWN), name, now=now)

    def baseline(self, row: Row) -> Row | None:
        """What the run is held against: the baseline of those it may be compared with, unless it is that itself."""
        found = self.baselines.get(row.comparable) if row.comparable else None
        return None if found is None or found.id == row.id else found

    def _versus(self, row: Row) -> float | None:
        other = self.baseline(row)
        mine, its = best_loss(row), best_loss(other) if other else None
        return None if mine is None or not its else (mine - its) / abs(its)

    def best(self, rows: Iterable[Row], name: str) -> float | None:
        """The best of what these runs have: the lowest, of what should be high the highest."""
        found = [value for value in map(self.asker(name), rows) if isinstance(value, (int, float))]
        asked = facts.metric(name)
        best = max if asked is not None and higher_is_better(asked[0]) else min
        return best(found, default=None)

    def common(self, rows: Sequence[Row], name: str) -> Value:
        """What is the same in all of these runs; None where they differ."""
        asker = self.asker(name)
        first = asker(rows[0])
        return first if all(value == first for value in map(asker, rows)) else None


def _plain(value: object) -> Value:
    """A setting as facts have it."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    return tuple(map(str, value)) if isinstance(value, list | tuple) else str(value)


def best_loss(row: Row) -> float | None:
    """The run's lowest validation loss."""
    figures = row.metrics.get(LOSS)
    return figures.best if figures else None


def leaders(rows: Iterable[Row]) -> frozenset[int]:
    """Of each group of comparable runs with at least two measured, the id of the one with the lowest validation loss."""
    measured: dict[str, list[tuple[float, int]]] = {}
    for row in rows:
        best = best_loss(row)
        if row.comparable and best is not None:
            measured.setdefault(row.comparable, []).append((best, row.id))
    return frozenset(min(group)[1] for group in measured.values() if len(group) > 1)
