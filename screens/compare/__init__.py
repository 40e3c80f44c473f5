"""The Compare screen."""

from __future__ import annotations

from textual.app import ComposeResult

from screens.widgets.line import Line
from screens.widgets.page import Page


class CompareScreen(Page):
    """The Compare screen, empty."""

    NAME = "compare"

    def compose_body(self) -> ComposeResult:
        """What to do first."""
        yield Line("No runs are chosen. Press 1, mark runs with space.", id="empty")
