"""How the lines of a run's page are put together: labels, pairs and columns that fit a width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.cells import cell_len
from textual.content import Content

from screens.runs.diff import plain
from screens.widgets.line import shortened

MUTED: Final = "$foreground-muted"
LABEL: Final = 12  # columns

Cell = str | Content


def heading(text: str) -> Content:
    """What stands above several lines."""
    return Content.styled(text, "bold $text-accent")


def labelled(label: str, text: Cell, width: int) -> Content:
    """The text behind its label, in as many lines as it takes."""
    return beside(Content.styled(label.ljust(LABEL), MUTED), text, width)


def beside(left: Content, text: Cell, width: int) -> Content:
    """The text behind what stands left of it, its further lines indented as far."""
    content = Content(text) if isinstance(text, str) else text
    first, *more = content.wrap(max(10, width - left.cell_length)) or [Content()]
    return Content("\n").join([left + first, *(line.pad_left(left.cell_length) for line in more)])


def pairs(found: Mapping[str, object], width: int) -> Content:
    """Keys as wide as the widest, values wrapped beside them."""
    room = min(max((cell_len(key) for key in found), default=0), width // 2)
    lines = [
        beside(Content.styled(shortened(key, room).ljust(room + 2), MUTED), plain(value), width)
        for key, value in found.items()
    ]
    return Content("\n").join(lines)


def grid(titles: Sequence[str], rows: Sequence[Sequence[Cell]], width: int, *, right: Sequence[int] = ()) -> Content:
    """Aligned columns under their titles, nothing without rows; what the last one has no room for goes on under it."""
    if not rows:
        return Content()
    texts = [[Content(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max([cell_len(title), *(row[place].cell_length for row in texts)]) for place, title in enumerate(titles)]
    heads = [Content.styled(title, f"bold {MUTED}") for title in titles]
    lines = []
    for row in [heads, *texts]:
        *cells, last = [
            cell.pad_left(widths[place] - cell.cell_length)
            if place in right
            else cell.pad_right(widths[place] - cell.cell_length)
            for place, cell in enumerate(row)
        ]
        before = Content("  ").join([*cells, Content()])
        lines.append(beside(before, row[-1] if len(row) - 1 not in right else last, width))
    return Content("\n").join(lines)
