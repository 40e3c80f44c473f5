"""The run's page: everything that the ledger knows of one run."""

from __future__ import annotations

from screens.commands import Command
from screens.session import Session
from screens.widgets.run_page import RunPage


class AboutScreen(RunPage[None]):
    """One run."""

    NAME = "runs"
    TITLE = "Run"
    VERBS = (Command("about.back", "escape", "back", "Back to the runs.", "dismiss", show=False),)

    def __init__(self, session: Session, uid: str) -> None:
        super().__init__(session)
        self._uid = uid
