"""Which setting mattered for a metric, over the runs that were shown."""

from __future__ import annotations

from collections.abc import Sequence

from engine.ledger.runs import Run
from screens.commands import Command
from screens.session import Session
from screens.widgets.page import Page


class WhyScreen(Page[None]):
    """Settings by how much they have to do with a metric."""

    NAME = "runs"
    TITLE = "Why"
    VERBS = (Command("why.back", "escape", "back", "Back to the runs.", "dismiss", show=False),)

    def __init__(self, session: Session, runs: Sequence[Run], metric: str) -> None:
        super().__init__(session)
        self._runs = tuple(runs)
        self._metric = metric
