"""What runs say about a metric: their settings and what each came to, of those that may be held against each other."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from engine.ledger import summaries, table
from engine.ledger.importance import Settings
from engine.ledger.store import Ledger

Which = Literal["best", "last"]
WITHIN: Final = ("validation/", "train/loss")
"""Beginnings of metrics that mean the same only within runs that are `comparable`."""

COUNTED: Final = ("train/epoch", "train/tokens")
"""Metrics that say how far a run is, not how good."""


class Compared(Protocol):
    """A run, or its row in the table."""

    @property
    def id(self) -> int:
        """Its row id."""

    @property
    def comparable(self) -> str:
        """Equal where validation losses may be compared."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Settings and finite values of runs. `without` had no such value, `others` were validated on something else, or on nobody knows what.

    `unknown`: nobody knows whether the values may be held against each other, as of runs that were imported.
    """

    settings: tuple[Settings, ...]
    values: tuple[float, ...]
    without: int
    others: int
    unknown: bool = False


def gathered(ledger: Ledger, chosen: Sequence[Compared], metric: str, which: Which = "best") -> Evidence:
    """Of these runs those with a finite `which` value of the metric; of a validation's, those of the largest group that may be compared."""
    measured = summaries.of_all(ledger, (metric,))
    found: list[tuple[Compared, float]] = []
    for run in chosen:
        summary = measured.get(run.id, {}).get(metric)
        value = getattr(summary, which) if summary else None
        if value is not None and math.isfinite(value):
            found.append((run, value))
    without, others, unknown = len(chosen) - len(found), 0, False
    if found and metric.startswith(WITHIN):
        largest, many = Counter(run.comparable for run, _ in found).most_common(1)[0]
        others, unknown = len(found) - many, not largest
        found = [(run, value) for run, value in found if run.comparable == largest]
    settings = table.settings(ledger, [run.id for run, _ in found])
    return Evidence(
        tuple(settings.get(run.id, {}) for run, _ in found),
        tuple(value for _, value in found),
        without,
        others,
        unknown,
    )


def mixed(chosen: Sequence[Compared], metric: str) -> bool:
    """Whether it is known of some of these runs that the metric does not mean the same in them."""
    return metric.startswith(WITHIN) and len({run.comparable for run in chosen if run.comparable}) > 1


def metrics_of(ledger: Ledger, chosen: Sequence[Compared]) -> list[str]:
    """The metrics that at least two of these runs have, validation and losses first."""
    query = (
        "SELECT k.name FROM series s JOIN key k ON k.id = s.key WHERE s.run IN (SELECT value FROM json_each(?))"
        " GROUP BY s.key HAVING count(*) > 1"
    )
    found = (str(row[0]) for row in ledger.rows(query, (json.dumps([run.id for run in chosen]),)))
    names = (name for name in found if name not in COUNTED)
    return sorted(names, key=lambda name: (not name.startswith("validation/"), not name.endswith("/loss"), name))
