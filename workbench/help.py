"""What every key does on the screen in front, made from the commands themselves."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen

from screens.commands import EVERYWHERE, Command, shown_key
from screens.widgets.line import Line
from screens.widgets.moves import MOVES

INDENT: Final = 27  # columns before what a command does
MUTED: Final = "$foreground-muted"
BACK: Final = Command("help.back", "escape,?,q", "back", "Back to the screen.", "dismiss")


class HelpScreen(ModalScreen[None]):
    """Commands of a screen, how lists move, what is the same everywhere."""

    BINDINGS = [BACK.binding()]  # noqa: RUF012 - Textual's own form
    CSS = """
    HelpScreen { background: $background; }
    HelpScreen #title, HelpScreen #keys { height: 1; padding: 0 1; background: $panel; }
    HelpScreen VerticalScroll { height: 1fr; padding: 1 2; }
    """

    def __init__(self, title: str, verbs: Sequence[Command], keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._heading = title
        self._verbs = tuple(verbs)
        self._keymap = keymap

    def compose(self) -> ComposeResult:
        """Title, three lists, the way back."""
        yield Line(Content.styled(f"Keys on {self._heading}", "bold"), id="title")
        with VerticalScroll():
            for heading, commands in (("Here", self._verbs), ("In lists", MOVES), ("Everywhere", EVERYWHERE)):
                if commands:
                    yield Line(self._list(heading, commands))
        yield Line(
            Content.assemble(("esc", "bold $text-accent"), " back   ", ("j k", "bold $text-accent"), " scroll"),
            id="keys",
        )

    def _list(self, heading: str, commands: Sequence[Command]) -> Content:
        room = max(20, self.app.size.width - INDENT - 6)
        lines = [Content.styled(heading, "bold $text-accent")]
        for command in commands:
            keys = " ".join(map(shown_key, self._keymap.get(command.id, command.key).split(",")))
            first, *more = textwrap.wrap(command.help, room)
            lines.append(Content.assemble((f"  {keys:<11}", "bold"), f"{command.label:<14}", (first, MUTED)))
            lines += [Content.styled(" " * INDENT + line, MUTED) for line in more]
        return Content("\n").join([*lines, Content()])

    def key_j(self) -> None:
        """Down."""
        self.query_one(VerticalScroll).scroll_down(animate=False)

    def key_k(self) -> None:
        """Up."""
        self.query_one(VerticalScroll).scroll_up(animate=False)
