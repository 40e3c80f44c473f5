"""The Runs screen."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.content import Content

from engine.ledger import runs
from engine.ledger.runs import Run
from screens.widgets.line import Line
from screens.widgets.page import Page


class RunsScreen(Page[list[Run]]):
    """All runs and what they are doing."""

    NAME = "runs"
    TITLE: ClassVar[str] = "Runs"

    def compose_body(self) -> ComposeResult:
        """A line for each run."""
        yield Line(id="runs")

    def read(self) -> list[Run]:
        """All runs, newest first."""
        return runs.listed(self.session.ledger)

    def show(self, snapshot: list[Run]) -> None:
        """Names and states."""
        lines = [f"{run.name}  {run.state}  {run.step}/{run.steps or '–'}" for run in snapshot]
        self.query_one("#runs", Line).show(Content("\n".join(lines) or "No runs yet. Press 3 to configure one."))
