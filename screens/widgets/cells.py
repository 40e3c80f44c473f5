"""A line of cells in columns, as it is drawn: made of segments at once, because a page of lines is made at every key and `Content` takes
five times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style as RichStyle
from textual.cache import LRUCache
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

from screens.widgets.line import fitted

Cell = str | tuple[str, str]
"""Text, or text and its style."""

MARGIN: Final = 3  # columns before the first cell: cursor, mark, blank


@dataclass(frozen=True)
class Column:
    """`width` in terminal columns; one column may take what is left over (`stretch`), `width` being the least it gets. Of a text that is too
    long as many letters as `keep_end` says are kept at its end; or it takes the room it needs from the next column (`pushes`), whose
    text is left out where it is not whole in what remains.
    """

    title: str
    width: int
    right: bool = False
    stretch: bool = False
    keep_end: int = 0
    pushes: bool = False


class Lines:
    """Draws the lines of a widget in its own styles; keeps those that it made."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._strips: LRUCache[object, Strip] = LRUCache(512)
        self._looks: dict[tuple[str, str, bool], RichStyle] = {}

    def forget(self) -> None:
        """Another theme: no line is as it was."""
        self._strips.clear()
        self._looks.clear()

    def drawn(
        self, cells: Sequence[Cell], marker: str, columns: tuple[Column, ...], width: int, component: str
    ) -> Strip:
        """A line of `width` columns: `marker` in the margin, then the cells, in the style of one of the widget's components."""
        name = (cells, marker, component, width, columns, self._widget.has_focus)
        strip = self._strips.get(name)
        if strip is None:
            segments = [Segment(marker, self._look("$text-accent", component))]
            pushed, rooms = 0, [_width_of(column, columns, width) for column in columns]
            for place, (column, cell) in enumerate(zip(columns, cells, strict=True)):
                text, style = cell if isinstance(cell, tuple) else (cell, "")
                room = rooms[place] - pushed
                if pushed and cell_len(text) > room:
                    text = ""
                pushed = max(0, min(cell_len(text) - room, rooms[place + 1])) if column.pushes else 0
                room += pushed
                shown = fitted(text, room, right=column.right, keep_end=column.keep_end)
                segments.append(Segment(shown + " ", self._look(style, component)))
            strip = Strip(segments).adjust_cell_length(width, self._look("", component))
            self._strips[name] = strip
        return strip

    def _look(self, style: str, component: str) -> RichStyle:
        """A cell's style on the line's own."""
        widget = self._widget
        name = (style, component, widget.has_focus)
        if (known := self._looks.get(name)) is None:
            line = widget.get_visual_style(component) if component else widget.visual_style
            known = self._looks[name] = (line + Style.parse(style)).rich_style
        return known


def _width_of(column: Column, columns: Sequence[Column], width: int) -> int:
    if not column.stretch:
        return column.width
    others = sum(other.width + 1 for other in columns if other is not column)
    return max(column.width, width - MARGIN - others)
