"""The command palette: every command of the screen in front, every screen, every theme, found by name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.types import IgnoreReturnCallbackType

from screens.commands import EVERYWHERE, HELP, PALETTE, Command, shown_key
from screens.widgets.page import Page
from workbench.themes import THEMES

Entry = tuple[str, str, IgnoreReturnCallbackType]
"""Name, what it does, what to call."""


class Commands(Provider):
    """Looks up `Command`s; choosing one does what its key does."""

    def _entries(self) -> Iterator[Entry]:
        page = self.screen
        verbs = page.VERBS if isinstance(page, Page) else ()
        for command in (*verbs, *EVERYWHERE):
            if command is not PALETTE:
                yield self._entry(command)
        for theme in THEMES:
            name = theme.name.removeprefix("workbench-")
            yield f"theme {name}", f"Use the {name} theme from now on.", partial(setattr, self.app, "theme", theme.name)

    def _entry(self, command: Command) -> Entry:
        key = shown_key(self.app._keymap.get(command.id, command.key))
        place = command.id.partition(".")[0]
        name = f"{place} {command.label}" if command is not HELP else command.label
        return f"{name}  ({key})", command.help, partial(self.screen.run_action, command.action)

    async def discover(self) -> Hits:
        """All of them, before anything is typed."""
        for name, help_text, call in self._entries():
            yield DiscoveryHit(name, call, help=help_text)

    async def search(self, query: str) -> Hits:
        """Those whose name or sentence is like what was typed."""
        matcher = self.matcher(query)
        for name, help_text, call in self._entries():
            score = max(matcher.match(name), matcher.match(help_text) * 0.8)
            if score > 0:
                yield Hit(score, matcher.highlight(name), call, help=help_text)
