"""What is known of runs' metrics without reading a point: last, best and smoothed values, from the table that `packing` keeps."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from engine.ledger.best import higher_is_better
from engine.ledger.runs import Run
from engine.ledger.store import Ledger, Value


class Summary(NamedTuple):
    """One metric of a run: its last value, its best (lowest; highest where `higher_is_better`), and smoothed as in `packing.Totals`.

    A last value that is NaN or infinite is None. A plain tuple, since a table of runs makes tens of thousands.
    """

    last: float | None
    last_step: int
    best: float | None
    best_step: int | None
    smoothed: float | None = None


def of_all(
    ledger: Ledger, names: Collection[str] | None = None, *, chosen: Collection[int] | None = None
) -> dict[int, dict[str, Summary]]:
    """By run id, its metrics by key: all of them, or only those `names`; of all runs, or of those with the ids `chosen`."""
    conditions = [f"k.name IN ({', '.join('?' * len(names))})"] if names is not None else []
    conditions += [f"s.run IN ({', '.join(map(str, map(int, chosen)))})"] if chosen is not None else []
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    found: dict[int, dict[str, Summary]] = {}
    for run, name, each in _read(ledger, where, tuple(names or ())):
        found.setdefault(run, {})[name] = each
    return found


def of_run(ledger: Ledger, run: Run) -> dict[str, Summary]:
    """A run's metrics by key."""
    return {name: each for _, name, each in _read(ledger, " WHERE s.run = ?", (run.id,))}


def _read(ledger: Ledger, where: str, values: tuple[Value, ...]) -> Iterator[tuple[int, str, Summary]]:
    query = (
        "SELECT s.run, k.name, s.last, s.last_step, s.min, s.min_step, s.max, s.max_step, s.smoothed"
        f" FROM series s JOIN key k ON k.id = s.key{where}"
    )
    for run, name, last, last_step, low, low_step, high, high_step, smoothed in ledger.rows(query, values):
        best = (high, high_step) if higher_is_better(name) else (low, low_step)
        yield run, name, Summary(last, last_step, *best, smoothed)
