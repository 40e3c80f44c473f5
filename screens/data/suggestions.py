"""What may be typed at a prompt: data and base models of runs, the newest first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from engine.ledger import Ledger, runs

MOST: Final = 50  # newest runs that are asked


def sources(ledger: Ledger) -> list[str]:
    """Data that runs were trained on."""
    return list(dict.fromkeys(_values(ledger, "data.0.source")))


def bases(ledger: Ledger) -> list[str]:
    """Base models of runs."""
    return list(dict.fromkeys(_values(ledger, "model.base")))


def _values(ledger: Ledger, key: str) -> Iterator[str]:
    for run in runs.listed(ledger, limit=MOST):
        value = runs.settings(ledger, run).get(key)
        if isinstance(value, str) and value:
            yield value
