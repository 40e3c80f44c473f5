"""The curves of several runs in one chart."""

from __future__ import annotations

from collections.abc import Sequence

from engine.ledger.runs import Run
from screens.commands import Command
from screens.session import Session
from screens.widgets.page import Page


class OverlayScreen(Page[None]):
    """One metric of several runs."""

    NAME = "runs"
    TITLE = "Overlay"
    VERBS = (Command("overlay.back", "escape", "back", "Back to the runs.", "dismiss", show=False),)

    def __init__(self, session: Session, runs: Sequence[Run]) -> None:
        super().__init__(session)
        self._runs = tuple(runs)
