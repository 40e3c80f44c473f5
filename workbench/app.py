"""The application: five screens on one ledger, and the way from one to another."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from textual import work
from textual.app import App
from textual.events import Key
from textual.filter import LineFilter
from textual.message import Message
from textual.worker import WorkerFailed

from engine.errors import Problem
from engine.ledger import Ledger, runs
from screens.commands import EVERYWHERE, QUIT
from screens.messages import (
    SCREENS,
    CompareRuns,
    ConfigureFrom,
    EvaluateRuns,
    GoTo,
    KeepView,
    LookAtData,
    ScreenName,
    WatchRun,
)
from screens.session import Session
from screens.widgets.last_line import Words, typed_ahead
from screens.widgets.page import Page
from screens.widgets.run_page import RunPage
from workbench import keymap, themes
from workbench import settings as user_settings
from workbench.first_start import PlacesScreen, offer_copies
from workbench.help import HelpScreen
from workbench.palette import Commands
from workbench.settings import Settings

if TYPE_CHECKING:
    from engine.fit.simulator import Simulator


def page_type(name: ScreenName) -> type[Page[Any]]:
    """The class of a screen, imported when it is first wanted: together they cost several times what the first one does."""
    found: type[Page[Any]] = getattr(import_module(f"screens.{name}"), f"{name.title()}Screen")
    return found


def opened_pages() -> tuple[type[Page[Any]], ...]:
    """The classes of the pages that open over another."""
    from screens.runs.about import AboutScreen
    from screens.runs.diff import DiffScreen
    from screens.runs.overlay import OverlayScreen
    from screens.runs.why import WhyScreen

    return (AboutScreen, DiffScreen, OverlayScreen, WhyScreen)


class WorkbenchApp(App[None]):
    """Five screens, kept once opened.

    `settings` None means the defaults, without the first start's question and without writing a theme that was chosen.
    """

    TITLE = "Workbench"
    DEFAULT_MODE = "runs"
    # Leaving works everywhere, also in front of a modal screen, where the App's other keys end.
    BINDINGS = [replace(command.binding(), priority=command is QUIT) for command in EVERYWHERE]  # noqa: RUF012
    COMMANDS = {Commands}  # noqa: RUF012 - Textual's own form

    def __init__(self, session: Session, settings: Settings | None = None, *, watch: str | None = None) -> None:
        # Under NO_COLOR Textual shows greys, unless it is told to leave colours to the terminal: then it sends none.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.mistake: Exception | None = None
        self.session = session
        self._settings = settings
        self._watch = watch
        chosen = settings or Settings(runs_folder=session.runs_folder)
        for theme in themes.THEMES:
            self.register_theme(theme)
        self.theme = (
            themes.fitting(chosen.theme, self.console.color_system)
            if chosen.theme in self.available_themes
            else themes.DARK.name
        )
        self._pages: dict[ScreenName, Page[Any]] = {}
        self._saving = threading.Lock()
        self._sent_again: WeakSet[Key] = WeakSet()
        self._ascii = themes.AsciiOnly(enabled=themes.only_ascii())
        for name in SCREENS:
            self.add_mode(name, self._opener(name))
        if chosen.keymap:
            self.set_keymap(keymap.checked(chosen.keymap, (*map(page_type, SCREENS), *opened_pages())))

    def _opener(self, name: ScreenName) -> Callable[[], Page[Any]]:
        def opened() -> Page[Any]:
            page = self._pages[name] = page_type(name)(self.session)
            return page

        return opened

    @work(group="import", thread=True)
    def _import_the_others(self) -> None:
        """While the first screen is being looked at."""
        for name in SCREENS:
            page_type(name)
        if not self.is_headless:
            gc.freeze()  # modules and classes stay: the collector would take longer to look through them than a key may

    def _handle_exception(self, error: Exception) -> None:
        """A mistake of ours ends the application, but with words of the command line's, not with a traceback over the screen."""
        self.mistake = error.error if isinstance(error, WorkerFailed) and isinstance(error.error, Exception) else error
        if self.is_headless:
            super()._handle_exception(error)
        else:
            self.exit(return_code=2)

    async def _on_key(self, event: Key) -> None:
        """What was typed ahead of a prompt goes there, and answers no question that nobody had read."""
        await asyncio.sleep(0)  # a prompt that the key before this one opens has the focus now
        focused = self.focused
        if isinstance(focused, Words):
            event.prevent_default()
        elif event not in self._sent_again and focused and (again := typed_ahead(focused, event)) is not None:
            self._sent_again.add(again)
            focused.post_message(again)
            event.prevent_default()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's, and the one for ASCII where the locale asks for it."""
        return [*super().get_line_filters(), *([self._ascii] if self._ascii.enabled else [])]

    async def on_mount(self) -> None:
        """The first start asks where things go; a run to watch is shown at once."""
        self.call_after_refresh(self._import_the_others)
        if self.session.ledger.read_only:
            self.call_after_refresh(self._say_read_only)
        self.theme_changed_signal.subscribe(self, lambda theme: self._keep(theme=theme.name))
        is_empty = self._settings is not None and not runs.listed(self.session.ledger, limit=1)
        if is_empty and self._settings is not None and not self._settings.seen_places:
            self._ask_for_places()
        elif self._watch is not None:
            self.post_message(WatchRun(self._watch))
        elif is_empty:
            self._offer_copies()

    def _say_read_only(self) -> None:
        if isinstance(self.screen, Page):
            self.screen.say(
                f"{self.session.ledger.path} is open read-only: you can look, nothing is written.", "warning"
            )

    @work(group="first start")
    async def _ask_for_places(self) -> None:
        failed: list[Problem] = []

        def keep(folder: Path) -> None:
            try:
                self._save(runs_folder=folder, seen_places=True)
            except Problem as problem:  # said when there is a screen to say it on
                failed.append(problem)

        folder = await self.push_screen_wait(
            PlacesScreen(self.session.ledger.path, self.session.runs_folder, keep),
        )
        self.session = replace(self.session, runs_folder=folder)
        if isinstance(self.screen, Page):
            self.screen.session = self.session
            for problem in failed:
                self.screen.complain(problem)
            await offer_copies(self.screen)

    @work(group="first start")
    async def _offer_copies(self) -> None:
        if isinstance(self.screen, Page):
            await offer_copies(self.screen)

    @work(group="settings")
    async def _keep(self, **changed: Any) -> None:
        if self._settings is None or all(getattr(self._settings, name) == value for name, value in changed.items()):
            return
        try:
            await asyncio.to_thread(self._save, **changed)
        except Problem as problem:
            if isinstance(self.screen, Page):
                self.screen.complain(problem)

    def _save(self, **changed: Any) -> None:
        """Write settings that were changed here; what cannot be kept holds until the end. In a thread: a file is synced.

        Raises:
            Problem: it cannot be written.
        """
        with self._saving:
            assert self._settings is not None
            self._settings = replace(self._settings, **changed)
            user_settings.save(self._settings)

    def action_help(self) -> None:
        """The keys of the screen in front."""
        if isinstance(self.screen, Page):
            title = self.screen.TITLE or self.screen.NAME.title()
            self.push_screen(HelpScreen(title, self.screen.VERBS, self._keymap))

    async def action_quit(self) -> None:
        """Leave, after a question where that loses something."""
        self._leave()

    @work(group="leave", exclusive=True)
    async def _leave(self) -> None:
        from screens.runs.note import NoteScreen  # with an editor, which nobody waits for before

        if isinstance(self.screen, NoteScreen) and not await self.screen.may_leave():
            return
        for page in self._pages.values():
            if unsaved := page.unsaved:
                await self._show(page.NAME)
                while self.screen is not page:  # help or the palette lies over it
                    self.pop_screen()
                if not await page.ask(f"Leave and lose {unsaved}?"):
                    return
        self.exit()

    async def action_go(self, screen: ScreenName) -> None:
        """Show one of the five screens; from Runs, Monitor shows the run that was looked at there."""
        before = self.screen
        if screen == "monitor" and isinstance(before, RunPage) and before.NAME == "runs" and before.chosen:
            await self.on_watch_run(WatchRun(before.chosen.uid))
        elif screen == self.current_mode:
            while len(self.screen_stack) > 1:  # what was opened over it
                self.pop_screen()
        else:
            await self._show(screen)

    async def on_go_to(self, message: GoTo) -> None:
        """A screen asks for another."""
        await self._show(message.screen)

    async def _show(self, screen: ScreenName) -> None:
        await asyncio.to_thread(page_type, screen)  # its import may still be under way
        await self.switch_mode(screen)

    async def _hand_over(self, screen: ScreenName, message: Message) -> None:
        await self._show(screen)
        if isinstance(self.screen, Page):
            self.screen.receive(message)

    def on_keep_view(self, message: KeepView) -> None:
        """Into the settings."""
        self._keep(runs=message.view)

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


def run(ledger_path: Path, *, watch: str | None = None) -> int:
    """Open the application on a ledger, on Monitor where a run's uid is to be watched; the exit code.

    Raises:
        Problem: the ledger or the settings cannot be opened, or the key map does not work.
    """
    settings = user_settings.load()
    with Ledger.open(ledger_path) as ledger, ExitStack() as at_the_end:

        @cache
        def simulator() -> Simulator:
            from engine.fit.simulator import Simulator  # a fifth of what the first screen needs, which does not need it

            return at_the_end.enter_context(closing(Simulator()))

        session = Session(ledger, settings.runs_folder, view=settings.runs, simulator=simulator)
        app = WorkbenchApp(session, settings, watch=watch)
        app.run()
        if app.mistake is not None:
            raise app.mistake
        return app.return_code or 0
