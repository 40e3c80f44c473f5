"""A table of any number of rows on the line API: only lines on screen are made, only lines that changed are sent.

Rows are values. The owner gives a function from a row to its cells and one to its key; the cursor and the marks stay with the key
when rows come, go or move. A row may stand for several others (a group): then a third function says which keys it marks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Final, Generic, Self, TypeVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style as RichStyle
from textual.cache import LRUCache
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style

from screens.commands import Command
from screens.widgets.line import shortened

Row = TypeVar("Row")
Cell = str | tuple[str, str]
"""Text, or text and its style."""

MARGIN: Final = 3  # columns before the first cell: cursor, mark, blank
MOVES: Final = (
    Command("move.down", "j,down", "down", "Move down a line.", "move(1)", show=False),
    Command("move.up", "k,up", "up", "Move up a line.", "move(-1)", show=False),
    Command(
        "move.left",
        "h,left",
        "left",
        "Move left, where a table is wider than the screen.",
        "move_across(-8)",
        show=False,
    ),
    Command(
        "move.right",
        "l,right",
        "right",
        "Move right, where a table is wider than the screen.",
        "move_across(8)",
        show=False,
    ),
    Command("move.first", "g,home", "first", "Go to the first line.", "move_to_first", show=False),
    Command("move.last", "G,end", "last", "Go to the last line.", "move_to_last", show=False),
    Command("move.page_down", "pagedown", "page down", "Move down a page.", "move_page(1)", show=False),
    Command("move.page_up", "pageup", "page up", "Move up a page.", "move_page(-1)", show=False),
)
"""How every list moves."""


@dataclass(frozen=True)
class Column:
    """`width` in terminal columns; one column may take what is left over (`stretch`), `width` being the least it gets. Of a text that is too
    long as many letters as `keep_end` says are kept at its end.
    """

    title: str
    width: int
    right: bool = False
    stretch: bool = False
    keep_end: int = 0


class Table(ScrollView, Generic[Row], can_focus=True):
    """Titles in the first line, then the rows; `▌` is the cursor and `◆` a mark."""

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
        self._strips: LRUCache[object, Strip] = LRUCache(512)
        self._looks: dict[tuple[str, str, bool], RichStyle] = {}

    # What there is

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if self.rows else None

    def show(self, rows: Sequence[Row], columns: Sequence[Column] | None = None) -> None:
        """These rows from now on, in these columns; the cursor stays on its row, wherever that went, or near its place."""
        before, place_before, many = self.selected, self.cursor, len(self.rows)
        self.rows = rows
        self._made.clear()
        self.cursor = self._place_of(before)
        others = columns is not None and tuple(columns) != self.columns
        if columns is not None:
            self.columns = tuple(columns)
        if others or many != len(rows):
            self._measure()
        stay = self.marked.intersection(chain.from_iterable(map(self._marks, rows))) if self.marked else self.marked
        if others or stay != self.marked:
            self.marked = stay
            self.refresh()
        for line in range(self.size.height - 1):
            place = self.scroll_offset.y + line
            now = self._cells_at(place) if place < len(rows) else None
            if line not in self._drawn or self._drawn[line] != now:
                self.refresh(Region(0, line + 1, self.size.width, 1))
        after = self.selected
        if self.cursor != place_before:
            self._follow_cursor()
        if (before and self._key(before)) != (after and self._key(after)):
            self._follow_cursor()
            self.post_message(self.Moved(self))

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
        self.move_to(self.cursor + pages * max(1, self.size.height - 2))

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
        place = self.scroll_offset.y + event.y - 1
        if event.y >= 1 and place < len(self.rows):
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
        self._strips.clear()
        self._looks.clear()

    @property
    def room(self) -> int:
        """Columns of a line that are to be seen: not those under the scrollbar."""
        return self.scrollable_content_region.width

    @property
    def _line_width(self) -> int:
        return max(self.room, MARGIN + sum(column.width + 1 for column in self.columns) - 1)

    def _measure(self) -> None:
        self.virtual_size = Size(self._line_width, len(self.rows) + 1)

    def _follow_cursor(self) -> None:
        visible = max(1, self.size.height - 1)
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True, force=True)
        elif self.cursor >= top + visible:
            self.scroll_to(y=self.cursor - visible + 1, animate=False, immediate=True, force=True)

    def _refresh_rows(self, *places: int) -> None:
        for place in places:
            self.refresh(Region(0, place - self.scroll_offset.y + 1, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """The titles, a row, or an empty line."""
        left, top = self.scroll_offset
        place = top + y - 1
        if y == 0:
            line = self._line(tuple(column.title for column in self.columns), "   ", "table--titles")
        elif place >= len(self.rows):
            self._drawn[y - 1] = None
            return Strip.blank(self.size.width, self.rich_style)
        else:
            row = self.rows[place]
            cursor = place == self.cursor
            marker = f" {'▌' if cursor else ' '}{'◆' if self._is_marked(row) else ' '}"
            cells = self._drawn[y - 1] = self._cells_at(place)
            line = self._line(cells, marker, "table--cursor" if cursor else "")
        return line.crop(left, left + self.size.width)

    def _line(self, cells: tuple[Cell, ...], marker: str, component: str) -> Strip:
        """Made of segments at once: a page of lines is made at every key, and `Content` takes five times as long."""
        width = self._line_width
        name = (cells, marker, component, width, self.columns, self.has_focus)
        strip = self._strips.get(name)
        if strip is None:
            segments = [Segment(marker, self._look("$text-accent", component))]
            for column, cell in zip(self.columns, cells, strict=True):
                text, style = cell if isinstance(cell, tuple) else (cell, "")
                fitted = _fitted(text, self._width_of(column), column) + " "
                segments.append(Segment(fitted, self._look(style, component)))
            strip = Strip(segments).adjust_cell_length(width, self._look("", component))
            self._strips[name] = strip
        return strip

    def _look(self, style: str, component: str) -> RichStyle:
        """A cell's style on the line's own."""
        name = (style, component, self.has_focus)
        if (known := self._looks.get(name)) is None:
            line = self.get_visual_style(component) if component else self.visual_style
            known = self._looks[name] = (line + Style.parse(style)).rich_style
        return known

    def _width_of(self, column: Column) -> int:
        if not column.stretch:
            return column.width
        others = sum(other.width + 1 for other in self.columns if other is not column)
        return max(column.width, self._line_width - MARGIN - others)


def _fitted(text: str, width: int, column: Column) -> str:
    """`text` in exactly `width` columns; what is not printable is a blank."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    if column.keep_end and len(text) > column.keep_end and cell_len(text) > width:
        end = text[-column.keep_end :]
        text = shortened(text, width - cell_len(end)) + end
    text = shortened(text, width)
    blank = " " * (width - cell_len(text))
    return blank + text if column.right else text + blank
