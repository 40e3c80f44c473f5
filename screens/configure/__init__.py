"""The Configure screen."""

from __future__ import annotations

from textual.app import ComposeResult

from screens.widgets.line import Line
from screens.widgets.page import Page


class ConfigureScreen(Page):
    """The Configure screen, empty."""

    NAME = "configure"

    def compose_body(self) -> ComposeResult:
        """What to do first."""
        yield Line("Nothing is being configured.", id="empty")
