"""The last line: the keys that matter here, or a message, or a question, or something to type.

Questions and prompts take the focus; while they stand no other key does anything. Above a filter that is typed stands a line that says what may come
next, or where a mistake is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from textual.app import ComposeResult
from textual.binding import BindingsMap
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Key, Resize
from textual.suggester import SuggestFromList
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Input

from engine.filtering import Field, Filter, parse, settled
from screens.widgets.entry import Entry
from screens.widgets.line import Line
from screens.widgets.typed_filter import Typing, looked_at

Level = Literal["info", "warning", "error"]
STYLES: Final = {"info": "$text", "warning": "$text-warning", "error": "$text-error"}
SYMBOLS: Final = {"info": "", "warning": "! ", "error": "✗ "}
EDITING: Final = frozenset(BindingsMap(Input.BINDINGS).key_to_bindings)
READING_TIME: Final = 8.0  # seconds that a message stands; errors stand until the next key


class Words(Line):
    """What the line says. It holds the focus while a question is open, so that every key comes here."""

    def on_key(self, event: Key) -> None:
        """`y` is yes; `n`, `esc` and enter are no; nothing else is heard."""
        event.stop()
        event.prevent_default()
        if event.key in ("y", "Y", "n", "N", "escape", "enter"):
            self.query_ancestor(LastLine).answer(event.key in ("y", "Y"))


def typed_ahead(focused: Widget, key: Key) -> Key | None:
    """The key again, if it is for the prompt that has the focus; None if that is not so.

    Keys that came in one packet with the one that opens a prompt, as over a slow line, were on their way elsewhere: they would be commands.
    """
    if isinstance(focused, Entry) and any(isinstance(each, LastLine) for each in focused.ancestors):
        return Key(key.key, key.character)
    return None


class Hint(Line):
    """What is said of a filter while it is typed."""


class LastLine(Vertical):
    """Keys | message | question | prompt."""

    DEFAULT_CSS = """
    LastLine { dock: bottom; height: auto; min-height: 1; max-height: 4; background: $panel; padding: 0 1; }
    LastLine Horizontal { height: auto; }
    LastLine Hint { display: none; height: 1; }
    LastLine.-assisted Hint { display: block; }
    LastLine Input { display: none; width: 1fr; background: $panel; }
    LastLine.-typing Words { width: auto; padding: 0 1 0 0; }
    LastLine.-typing Input { display: block; }
    """

    def __init__(self, *, helps: bool = True) -> None:
        """`helps` says that `?` explains the keys here."""
        super().__init__()
        self._helps = helps
        self._words = Words()
        self._input = Entry(
            compact=True, select_on_focus=False, disabled=True
        )  # else it would take the focus of an empty page
        self._input.cursor_blink = False  # a blinking cursor would send bytes for ever
        self._keys: tuple[tuple[str, str], ...] = ()
        self._message: Content | None = None
        self._timer: Timer | None = None
        self._question: asyncio.Future[bool] | None = None
        self._typed: asyncio.Future[str | None] | None = None
        self._changed: Callable[[str], None] | None = None
        self._hint = Hint()
        self._look: Callable[[str, int], Typing] | None = None
        self._focused: Widget | None = None

    def compose(self) -> ComposeResult:
        """The words and the input beside them, under what is said of a filter."""
        yield self._hint
        with Horizontal():
            yield self._words
            yield self._input

    def on_mount(self) -> None:
        """What is said of a filter depends on where its cursor stands, too."""
        self.watch(self._input, "selection", self._show_hint, init=False)

    @property
    def busy(self) -> bool:
        """A question or a prompt is open."""
        return self._question is not None or self._typed is not None

    def show_keys(self, keys: Sequence[tuple[str, str]]) -> None:
        """Keys and their labels that stand here when there is nothing to say or to ask."""
        self._keys = tuple(keys)
        self._settle()

    def say(self, text: str, level: Level = "info") -> None:
        """A message in place of the keys, until it was read: errors until the next key."""
        self._message = Content.styled(SYMBOLS[level] + " ".join(text.split()), STYLES[level])
        if self._timer is not None:
            self._timer.stop()
        self._timer = None if level == "error" else self.set_timer(READING_TIME, self.unsay)
        self._settle()

    def unsay(self) -> None:
        """Back to the keys."""
        if self._message is not None:
            self._message = None
            self._settle()

    async def ask(self, question: str) -> bool:
        """Whether the answer was yes. An open question or prompt is withdrawn."""
        self._withdraw()
        asked: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._question = asked
        self._words.show(
            Content.assemble(
                (question, "bold $text-warning"),
                ("  y", "bold $text-accent"),
                " yes",
                ("  n", "bold $text-accent"),
                " no",
            )
        )
        self._take_focus(self._words)
        try:
            return await asked
        finally:
            if self._question is asked:  # no other question has come in between
                self._question = None
                self._give_back_focus()

    async def prompt(
        self, label: str, value: str, suggestions: Sequence[str], changed: Callable[[str], None] | None
    ) -> str | None:
        """What was typed; None after `esc`. `changed` hears every keystroke."""
        self._withdraw()
        typed: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._typed = typed
        self._words.show(Content.styled(label, "bold $text-accent"))
        entry = self._input
        entry.suggester = SuggestFromList(suggestions, case_sensitive=False) if suggestions else None
        with entry.prevent(Input.Changed):
            entry.value = value
        entry.cursor_position = len(value)
        self._changed = changed
        entry.disabled = False
        self.add_class("-typing")
        self._take_focus(entry)
        try:
            return await typed
        finally:
            if self._typed is typed:  # no other prompt has come in between
                self._typed = self._changed = None
                entry.disabled = True
                self.remove_class("-typing")
                self._give_back_focus()

    async def filter(
        self,
        before: str,
        fields: Sequence[Field],
        changed: Callable[[Filter], None],
        values: Callable[[str], Iterable[str]],
    ) -> None:
        """A filter, applied by `changed` as it is typed; `esc` brings back what stood there `before`.

        A word that may become the name of a field is applied only once it cannot any more, or with enter.
        """

        def look(text: str, cursor: int) -> Typing:
            return looked_at(text, cursor, fields, values)

        def so_far(text: str) -> None:
            changed(parse(settled(text, self._input.cursor_position, fields), fields))

        self._look, self._input.complete = look, lambda text, cursor: look(text, cursor).taken
        self.add_class("-assisted")
        self._hint.show("")
        self.call_after_refresh(self._show_hint)
        try:
            typed = await self.prompt("/", before, (), so_far)
        finally:
            if self._look is look:  # no other filter has come in between
                self._look = self._input.complete = None
                self.remove_class("-assisted")
        changed(parse(before if typed is None else typed, fields))

    def _show_hint(self) -> None:
        entry = self._input
        if self._look is not None:
            left = entry.region.x - self._hint.region.x - round(entry.scroll_offset.x)
            self._hint.show(self._look(entry.value, entry.cursor_position).told(left, self._hint.size.width))

    def answer(self, yes: bool) -> None:
        """Close the open question."""
        if self._question is not None and not self._question.done():
            self._question.set_result(yes)

    def _withdraw(self) -> None:
        self.answer(False)
        if self._typed is not None and not self._typed.done():
            self._typed.set_result(None)

    def _take_focus(self, widget: Widget) -> None:
        if not self.busy or self._focused is None:
            self._focused = self.screen.focused
        widget.can_focus = True
        self.screen.set_focus(widget)

    def _give_back_focus(self) -> None:
        if self.busy:  # another question came before this one was cleared away
            return
        self._words.can_focus = False
        if not self.is_attached:  # the application is closing
            return
        self.screen.set_focus(self._focused)
        self._focused = None
        self._message = None
        self._settle()

    def _settle(self) -> None:
        if self.is_mounted and not self.busy:
            self._words.show(self._message or self._keys_that_fit())

    def _keys_that_fit(self) -> Content:
        """Keys from the left as long as they fit, `? help` always last."""
        last = (
            Content.assemble(("?", "bold $text-accent"), (" help", "$foreground-muted")) if self._helps else Content()
        )
        room = self.content_size.width - last.cell_length - 2
        line = Content()
        for key, label in self._keys:
            part = Content.assemble((key, "bold $text-accent"), (f" {label}  ", "$foreground-muted"))
            if line.cell_length + part.cell_length > room:
                break
            line += part
        return line.pad_right(max(0, room + 2 - line.cell_length)) + last

    def on_resize(self, _: Resize) -> None:
        """Other keys may fit now."""
        self._settle()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Tell who wants to know."""
        event.stop()
        self._show_hint()
        if self._changed is not None:
            self._changed(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter ends the prompt."""
        event.stop()
        if self._typed is not None and not self._typed.done():
            self._typed.set_result(event.value)

    def on_key(self, event: Key) -> None:
        """`esc` leaves the prompt; keys that the input does not use reach nobody else."""
        if self._typed is None:
            return
        if event.key == "escape":
            self._typed.set_result(None)
        if event.key not in EDITING:
            event.stop()
