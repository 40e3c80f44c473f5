"""The Monitor screen."""

from __future__ import annotations

from textual.app import ComposeResult

from screens.widgets.line import Line
from screens.widgets.page import Page


class MonitorScreen(Page):
    """The run that trains."""

    NAME = "monitor"

    def compose_body(self) -> ComposeResult:
        """Nothing is watched yet."""
        yield Line("No run is chosen. Press 1 and choose one with enter.", id="empty")
