"""Curves kept between two looks, so that only what was added since is read."""

from __future__ import annotations

from engine.ledger import Ledger, metrics
from engine.ledger.metrics import Curve

KEPT = 32  # curves; a screen shows a few of one run


class Curves:
    """Metrics of runs as they were last read, the `kept` that were asked for last. For one thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self._most = kept
        self._kept: dict[tuple[int, str], Curve] = {}

    def get(self, ledger: Ledger, run: int, name: str) -> Curve:
        """The metric as it stands now; the same object as before when nothing was added."""
        known = self._kept.pop((run, name), None)
        if known is None:
            known = metrics.curve(ledger, run, name)
        else:
            added = metrics.curve(ledger, run, name, after=known.seq)
            known = known.joined(added) if len(added.steps) else known
        self._kept[run, name] = known  # last: most recently used
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        return known
