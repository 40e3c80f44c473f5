"""A table of any number of rows on the line API: only lines on screen are made, only lines that changed are sent.

Rows are values. The owner gives a function from a row to its cells and one to its key; the cursor and the marks stay with the key
when rows come, go or move. A row may stand for several others (a group): then a third function says which keys it marks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from typing import ClassVar, Generic, Self, TypeVar

from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from screens.widgets.cells import MARGIN, Cell, Column, Lines
from screens.widgets.moves import MOVES

Row = TypeVar("Row")


class Table(ScrollView, Generic[Row], can_focus=True):
    """Titles in the first line, where columns have any, then the rows; `▌` is the cursor and `◆` a mark."""

    DEFAULT_CSS = """
    Table { height: 1fr; scrollbar-size: 1 1; overflow-x: hidden; }
    Table > .table--titles { color: $text-muted; text-style: bold; }
    Table > .table--cursor { background: $primary 20%; }
    Table:focus > .table--cursor { background: $primary 35%; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--titles", "table--cursor"}
    BINDINGS = [command.binding() for command in MOVES]  # noqa: RUF012 - Textual's own form

    class Moved(Message):
        """The cursor is on another row, or there are none any more."""

        def __init__(self, table: Table[Row]) -> None:
            super().__init__()
            self.table = table

    class Opened(Message):
        """A row was clicked twice."""

        def __init__(self, table: Table[Row]) -> None:
            super().__init__()
            self.table = table

    def __init__(
        self,
        columns: Sequence[Column],
        cells: Callable[[Row], Sequence[Cell]],
        key: Callable[[Row], str],
        *,
        marks: Callable[[Row], frozenset[str]] | None = None,
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.rows: Sequence[Row] = ()
        self.cursor = 0
        self.marked: frozenset[str] = frozenset()
        self._cells = cells
        self._key = key
        self._marks = marks or (lambda row: frozenset((key(row),)))
        self._drawn: dict[int, tuple[Cell, ...] | None] = {}  # what each line of the screen shows
        self._made: dict[int, tuple[Cell, ...]] = {}  # the cells of rows by their place, since rows were last given
        self._lines = Lines(self)

    # What there is

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.rows else None

    def show(self, rows: Sequence[Row], columns: Sequence[Column] | None = None, *, from_top: bool = False) -> None:
        """These rows from now on, in these columns; the cursor stays on its row, wherever that went, or near its place, unless it is to
        be on the first one.
        """
        before, place_before, many = self.selected, self.cursor, len(self.rows)
        self.rows = rows
        self._made.clear()
        self.cursor = 0 if from_top else self._place_of(before)
        others = columns is not None and tuple(columns) != self.columns
        if columns is not None:
            self.columns = tuple(columns)
        if others or many != len(rows):
            self._measure()
        if self.cursor != place_before:
            self._follow_cursor()
        stay = self.marked.intersection(chain.from_iterable(map(self._marks, rows))) if self.marked else self.marked
        if others or stay != self.marked:
            self.marked = stay
            self.refresh()
        else:
            self._refresh_changed()
            if self.cursor != place_before:
                self._refresh_rows(place_before, self.cursor)
        after = self.selected
        if (before and self._key(before)) != (after and self._key(after)):
            self.post_message(self.Moved(self))

    def entitle(self, titles: Sequence[str]) -> None:
        """Other titles over the same columns."""
        self.columns = tuple(replace(column, title=title) for column, title in zip(self.columns, titles, strict=True))
        self.refresh(Region(0, 0, self.size.width, 1))

    @property
    def _head(self) -> int:
        """Lines above the rows: that of the titles, where there are any."""
        return int(any(column.title for column in self.columns))

    def _refresh_changed(self) -> None:
        """Draw again the lines whose cells are others now."""
        top, width = self.scroll_offset.y, self.size.width
        changed = []
        for line in range(self.size.height - self._head):
            now = self._cells_at(top + line) if top + line < len(self.rows) else None
            if line not in self._drawn or self._drawn[line] != now:
                changed.append(Region(0, line + self._head, width, 1))
        if changed:
            self.refresh(*changed)

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """Draw again, without regions with what the cells are now."""
        if not regions:
            self._made.clear()
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def _cells_at(self, place: int) -> tuple[Cell, ...]:
        if (made := self._made.get(place)) is None:
            made = self._made[place] = tuple(self._cells(self.rows[place]))
        return made

    def _place_of(self, row: Row | None) -> int:
        if row is None or not self.rows:
            return 0
        key = self._key(row)
        if self.cursor < len(self.rows) and self._key(self.rows[self.cursor]) == key:
            return self.cursor
        found = (place for place, other in enumerate(self.rows) if self._key(other) == key)
        return next(found, min(self.cursor, len(self.rows) - 1))

    # Moving and marking

    def move_to(self, place: int) -> None:
        """Put the cursor on the row at `place`, or as near as there is one."""
        place = max(0, min(place, len(self.rows) - 1))
        if place == self.cursor or not self.rows:
            return
        old, self.cursor = self.cursor, place
        self._refresh_rows(old, place)
        self._follow_cursor()
        self.post_message(self.Moved(self))

    def _is_marked(self, row: Row) -> bool:
        return bool(self.marked) and not self.marked.isdisjoint(self._marks(row))

    def toggle_mark(self) -> None:
        """Mark the row under the cursor or take its mark away, and go on to the next."""
        row = self.selected
        if row is not None:
            keys = self._marks(row)
            self.marked = self.marked - keys if keys <= self.marked else self.marked | keys
            self.refresh() if len(keys) > 1 else self._refresh_rows(self.cursor)
            self.move_to(self.cursor + 1)

    def unmark(self) -> None:
        """Take all marks away."""
        self.marked = frozenset()
        self.refresh()

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self.move_to(self.cursor + lines)

    def action_move_page(self, pages: int) -> None:
        """Move the cursor by what is on screen."""
        self.move_to(self.cursor + pages * max(1, self.size.height - self._head - 1))

    def action_move_to_first(self) -> None:
        """Move to the first row."""
        self.move_to(0)

    def action_move_to_last(self) -> None:
        """Move to the last row."""
        self.move_to(len(self.rows) - 1)

    def action_move_across(self, columns: int) -> None:
        """Show what is left or right of the screen."""
        self.scroll_to(x=self.scroll_offset.x + columns, animate=False, force=True)

    def on_click(self, event: Click) -> None:
        """A click moves the cursor; a second one opens."""
        place = self.scroll_offset.y + event.y - self._head
        if event.y >= self._head and place < len(self.rows):
            self.move_to(place)
            if event.chain == 2:
                self.post_message(self.Opened(self))

    # Drawing

    def watch_show_vertical_scrollbar(self) -> None:
        """It takes a column of every line."""
        self._measure()

    def on_resize(self, _: Resize) -> None:
        """Lines are as wide as the screen."""
        self._measure()
        self._follow_cursor()

    def notify_style_update(self) -> None:
        """Another theme: no line is as it was."""
        super().notify_style_update()
        self._lines.forget()

    @property
    def room(self) -> int:
        """Columns of a line that are to be seen: not those under the scrollbar."""
        return self.scrollable_content_region.width

    @property
    def _line_width(self) -> int:
        return max(self.room, MARGIN + sum(column.width + 1 for column in self.columns) - 1)

    def _measure(self) -> None:
        self.virtual_size = Size(self._line_width, len(self.rows) + self._head)

    def _follow_cursor(self) -> None:
        visible = max(1, self.size.height - self._head)
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True, force=True)
        elif self.cursor >= top + visible:
            self.scroll_to(y=self.cursor - visible + 1, animate=False, immediate=True, force=True)

    def _refresh_rows(self, *places: int) -> None:
        for place in places:
            self.refresh(Region(0, place - self.scroll_offset.y + self._head, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """The titles, a row, or an empty line."""
        left, top = self.scroll_offset
        head = self._head
        place = top + y - head
        if y < head:
            titles = tuple(column.title for column in self.columns)
            line = self._lines.drawn(titles, "   ", self.columns, self._line_width, "table--titles")
        elif place >= len(self.rows):
            self._drawn[y - head] = None
            return Strip.blank(self.size.width, self.rich_style)
        else:
            row = self.rows[place]
            cursor = place == self.cursor
            marker = f" {'▌' if cursor else ' '}{'◆' if self._is_marked(row) else ' '}"
            cells = self._drawn[y - head] = self._cells_at(place)
            component = "table--cursor" if cursor else ""
            line = self._lines.drawn(cells, marker, self.columns, self._line_width, component)
        return line.crop(left, left + self.size.width)
