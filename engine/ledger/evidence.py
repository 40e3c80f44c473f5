"""What runs say about a metric: their settings and what each came to, of those that may be held against each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine.ledger import runs, table
from engine.ledger.importance import Settings
from engine.ledger.runs import Run
from engine.ledger.store import Ledger

Which = Literal["best", "last"]
WITHIN: Final = ("validation/", "train/loss")
"""Beginnings of metrics that mean the same only within runs that are `comparable`."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Runs with their settings and values, all finite. `without` had no such value, `others` were validated on something else."""

    runs: tuple[Run, ...]
    settings: tuple[Settings, ...]
    values: tuple[float, ...]
    without: int
    others: int


def gathered(ledger: Ledger, chosen: Sequence[Run], metric: str, which: Which = "best") -> Evidence:
    """Of these runs those with a finite `which` value of the metric; of a validation's, those of the largest group that may be compared."""
    summaries = runs.summaries(ledger, (metric,))
    found: list[tuple[Run, float]] = []
    for run in chosen:
        summary = summaries.get(run.id, {}).get(metric)
        value = getattr(summary, which) if summary else None
        if value is not None and math.isfinite(value):
            found.append((run, value))
    without, others = len(chosen) - len(found), 0
    if found and metric.startswith(WITHIN):
        largest, many = Counter(run.comparable for run, _ in found).most_common(1)[0]
        others = len(found) - many
        found = [(run, value) for run, value in found if run.comparable == largest]
    settings = table.settings(ledger, [run.id for run, _ in found])
    return Evidence(
        tuple(run for run, _ in found),
        tuple(settings.get(run.id, {}) for run, _ in found),
        tuple(value for _, value in found),
        without,
        others,
    )


def metrics_of(ledger: Ledger, chosen: Sequence[Run]) -> list[str]:
    """The metrics that at least two of these runs have, validation and losses first."""
    wanted = {run.id for run in chosen}
    found = Counter(name for run, names in runs.summaries(ledger).items() if run in wanted for name in names)
    shared = (name for name, many in found.items() if many > 1 and name not in ("train/epoch", "train/tokens"))
    return sorted(shared, key=lambda name: (not name.startswith("validation/"), not name.endswith("/loss"), name))
