"""A note on a run, in Markdown: several lines to type, and beside them, where there is room, how they will look."""

from __future__ import annotations

from typing import Final

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Markdown, TextArea

from screens.commands import Command
from screens.widgets.last_line import LastLine
from screens.widgets.line import Line

SAVE: Final = Command("note.save", "ctrl+o", "save", "Keep the note and go back.", "save")
BACK: Final = Command("note.back", "escape", "back", "Back without keeping what was changed. Asks first.", "back")


class Editor(TextArea):
    """A text area that does everything in the order in which it was typed, as `Entry` does and for its reason."""

    async def _on_key(self, event: Key) -> None:
        for binding in self._bindings.key_to_bindings.get(event.key, ()):
            if await self.app.run_action(binding.action, self):
                event.stop()
                event.prevent_default()
                return
        await super()._on_key(event)


class NoteScreen(ModalScreen[str | None]):
    """Dismisses with the note, or with None where it is to stay as it was."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - Textual's own form
    # Before the text area's own keys, which know escape as the way out of it.
    BINDINGS = [Binding(each.key, each.action, each.label, id=each.id, priority=True) for each in (SAVE, BACK)]  # noqa: RUF012
    CSS = """
    NoteScreen { background: $background; layout: vertical; }
    NoteScreen #title { height: 1; padding: 0 1; background: $panel; }
    NoteScreen #sides { height: 1fr; }
    NoteScreen TextArea { width: 1fr; border: none; padding: 0 1; }
    NoteScreen #preview { width: 1fr; border-left: solid $panel; padding: 0 1; display: none; scrollbar-size: 1 1; }
    NoteScreen.-wide #preview { display: block; }
    NoteScreen Markdown { padding: 0; margin: 0; }
    NoteScreen MarkdownH1 { content-align: left middle; margin: 0 0 1 0; }
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__()
        self._name = name
        self._before = text

    def compose(self) -> ComposeResult:
        """Title, the text, how it will look, the last line."""
        yield Line(Content.assemble((f"note on {self._name}", "bold"), ("  Markdown", "$foreground-muted")), id="title")
        with Horizontal(id="sides"):
            area = Editor(self._before, soft_wrap=True, tab_behavior="focus")
            area.cursor_blink = False  # it would send bytes for ever
            yield area
            with VerticalScroll(id="preview", can_focus=False):
                yield Markdown(self._before, open_links=False)
        yield LastLine(helps=False)

    def on_mount(self) -> None:
        """The cursor stands behind what is there."""
        area = self.query_one(TextArea)
        area.focus()
        area.move_cursor(area.document.end)
        self.query_one(LastLine).show_keys(
            [("^o", "save"), ("esc", "back"), ("", "the first line stands beside the run")]
        )

    @property
    def unsaved(self) -> str:
        """What leaving would lose, as it stands in a question."""
        return f"the changes to the note on {self._name}" if self._text != self._before.strip() else ""

    @property
    def _text(self) -> str:
        return self.query_one(TextArea).text.strip()

    def on_text_area_changed(self, _: TextArea.Changed) -> None:
        """What is typed is shown as it will look."""
        if self.has_class("-wide"):
            self._render_beside()

    @work(group="preview", exclusive=True)
    async def _render_beside(self) -> None:
        await self.query_one(Markdown).update(self.query_one(TextArea).text)

    def action_save(self) -> None:
        """Keep it."""
        self.dismiss(self._text)

    def action_back(self) -> None:
        """Leave it as it was; where a question is open, that is a no."""
        line = self.query_one(LastLine)
        if line.busy:
            line.answer(False)
        else:
            self._leave()

    @work(group="leave")
    async def _leave(self) -> None:
        if await self.may_leave():
            self.dismiss(None)

    async def may_leave(self) -> bool:
        """Whether nothing would be lost, or a person agrees to that. Only in a worker."""
        return not self.unsaved or await self.query_one(LastLine).ask(f"Leave and lose {self.unsaved}?")
