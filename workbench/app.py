"""The application: five screens on one ledger, and the way from one to another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.app import App
from textual.message import Message

from engine.ledger import Ledger
from screens.commands import EVERYWHERE
from screens.compare import CompareScreen
from screens.configure import ConfigureScreen
from screens.data import DataScreen
from screens.messages import CompareRuns, ConfigureFrom, EvaluateRuns, GoTo, LookAtData, ScreenName, WatchRun
from screens.monitor import MonitorScreen
from screens.runs import RunsScreen
from screens.session import Session
from screens.widgets.page import Page
from workbench import settings as user_settings
from workbench.settings import Settings


class WorkbenchApp(App[None]):
    """Five screens, kept once opened."""

    TITLE = "Workbench"
    DEFAULT_MODE = "runs"
    BINDINGS = [command.binding() for command in EVERYWHERE]  # noqa: RUF012 - Textual's own form

    def __init__(self, session: Session, settings: Settings | None = None) -> None:
        super().__init__()
        self.session = session
        self.settings = settings or Settings(runs_folder=session.runs_folder)
        pages: tuple[type[Page[Any]], ...] = (RunsScreen, DataScreen, ConfigureScreen, MonitorScreen, CompareScreen)
        for page in pages:
            self.add_mode(page.NAME, self._opener(page))
        self.set_keymap(self.settings.keymap)

    def _opener(self, page: type[Page[Any]]) -> Callable[[], Page[Any]]:
        return lambda: page(self.session)

    async def action_go(self, screen: ScreenName) -> None:
        """Show one of the five screens."""
        await self.switch_mode(screen)

    async def on_go_to(self, message: GoTo) -> None:
        """A screen asks for another."""
        await self.switch_mode(message.screen)

    async def _hand_over(self, screen: ScreenName, message: Message) -> None:
        await self.switch_mode(screen)
        page = self.screen
        if isinstance(page, Page):
            page.receive(message)

    async def on_watch_run(self, message: WatchRun) -> None:
        """To Monitor."""
        await self._hand_over("monitor", message)

    async def on_look_at_data(self, message: LookAtData) -> None:
        """To Data."""
        await self._hand_over("data", message)

    async def on_configure_from(self, message: ConfigureFrom) -> None:
        """To Configure."""
        await self._hand_over("configure", message)

    async def on_compare_runs(self, message: CompareRuns) -> None:
        """To Compare."""
        await self._hand_over("compare", message)

    async def on_evaluate_runs(self, message: EvaluateRuns) -> None:
        """To Compare, which knows the suites."""
        await self._hand_over("compare", message)


def run(ledger_path: Path) -> int:
    """Open the application on a ledger; the exit code.

    Raises:
        Problem: the ledger or the settings cannot be opened.
    """
    settings = user_settings.load()
    ledger = Ledger.open(ledger_path)
    try:
        app = WorkbenchApp(Session(ledger, settings.runs_folder), settings)
        app.run()
        return app.return_code or 0
    finally:
        ledger.close()
