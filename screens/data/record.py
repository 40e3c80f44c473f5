"""The selected row, or the selected finding: a line of views above its text."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.events import Resize
from textual.message import Message

from engine.data.finding import Finding
from screens.data.summary import whole_finding
from screens.data.views import VIEWS, Record, View, counted, drawn
from screens.widgets.line import Line
from screens.widgets.moves import MOVES
from screens.widgets.reader import Reader


class RecordText(Reader):
    """Text that moves as every list does; left and right turn to other rows."""

    BINDINGS = [command.binding() for command in MOVES if "across" in command.action]  # noqa: RUF012

    class Turned(Message):
        """The row before (-1) or after (1) is wanted."""

        def __init__(self, rows: int) -> None:
            super().__init__()
            self.rows = rows

    def action_move_across(self, columns: int) -> None:
        """Another row: left the one before, right the one after."""
        self.post_message(self.Turned(1 if columns > 0 else -1))


class RecordPane(Container):
    """Shows a record in one of five views."""

    DEFAULT_CSS = """
    RecordPane #tabs { height: auto; max-height: 2; padding: 0 1; background: $panel; }
    RecordPane RecordText { height: 1fr; padding: 0 1; scrollbar-size: 1 1; }
    """

    def __init__(self) -> None:
        super().__init__(id="detail")
        self.view: View = "Mapped"
        self.record: Record | None = None
        self._finding: Finding | None = None

    def compose(self) -> ComposeResult:
        """The views' names above the text."""
        yield Line(id="tabs")
        with RecordText():
            yield Line(id="record")

    def show(self, record: Record | None) -> None:
        """This row from now on, from its start."""
        self.record, self._finding = record, None
        self._draw()
        self.query_one(RecordText).scroll_home(animate=False)

    def show_finding(self, finding: Finding | None) -> None:
        """A finding in place of a row."""
        self._finding = finding
        self._draw()

    def turn_view(self, step: int) -> None:
        """The next or the last view, and around."""
        self.view = VIEWS[(VIEWS.index(self.view) + step) % len(VIEWS)]
        self.show(self.record)

    def on_resize(self, _: Resize) -> None:
        """What stands right stays right."""
        self._draw()

    def _draw(self) -> None:
        tabs, text = self.query_one("#tabs", Line), self.query_one("#record", Line)
        if self._finding is not None:
            tabs.show("finding")
            text.show(whole_finding(self._finding))
            return
        names = Content(" ─ ").join(
            Content.styled(f"[{view}]", "bold $text-accent") if view == self.view else Content(view) for view in VIEWS
        )
        right = counted(self.record) if self.record else Content()
        room = self.content_size.width - 2 - names.cell_length - right.cell_length
        tabs.show(names + Content(" " * room if room > 1 or not right.plain else "\n") + right)
        text.show(drawn(self.record, self.view) if self.record else "")
