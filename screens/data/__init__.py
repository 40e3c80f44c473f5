"""The Data screen."""

from __future__ import annotations

from textual.app import ComposeResult

from screens.widgets.line import Line
from screens.widgets.page import Page


class DataScreen(Page):
    """The Data screen, empty."""

    NAME = "data"

    def compose_body(self) -> ComposeResult:
        """What to do first."""
        yield Line("No data is open.", id="empty")
