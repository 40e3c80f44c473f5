"""A line chart: several curves, axes with ticks, a title that names each curve and its value, a cursor that reads values out.

Drawn on the line API from `plot`; a new picture is compared with the old one and only lines that differ are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from screens.widgets import colours, figures, plot
from screens.widgets.colours import COLOURS
from screens.widgets.plot import Axis
from screens.widgets.scales import STEP, Scale
from screens.widgets.series import Layer, Series

NAMES: Final = ("axis", "title", "cursor", "faint", *map(str, range(COLOURS)))
FAINT, CURSOR, STRONG = (
    COLOURS,
    COLOURS + 1,
    COLOURS + 2,
)  # what a cell may show besides a colour; STRONG + colour is one set in bold
BOLD: Final = Style(bold=True)
FEW: Final = 2  # smoothed curves that still leave room for their points behind them


class Chart(Widget):
    """Title line, plot, axis line, tick labels. `show` gives it curves; smoothing, logarithmic scale and cursor are its own.

    With `names` the title names each curve and its value; without them somebody else does.
    """

    DEFAULT_CSS = (
        colours.rules("Chart")
        + """
    Chart { height: 1fr; }
    Chart > .chart--axis { color: $text-muted; }
    Chart > .chart--title { text-style: bold; }
    Chart > .chart--cursor { color: $text-muted; }
    Chart > .chart--faint { color: $text-disabled; }
    """
    )
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chart--{name}" for name in NAMES}

    def __init__(self, title: str, *, names: bool = True, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.title = title
        self.names = names
        self.smoothed = False
        self.logarithmic = False
        self.cursor: float | None = None
        self.scale = STEP
        self._series: tuple[Series, ...] = ()
        self._empty = ""
        self._front: Series | None = None
        self._strips: list[Strip] = []
        self._looks: dict[str, Style] = {}

    def show(
        self,
        series: Sequence[Series],
        title: str | None = None,
        scale: Scale = STEP,
        *,
        front: bool = False,
        empty: str = "",
    ) -> None:
        """These curves from now on, the last one on top, in bold with `front`; a cursor means nothing on another scale.

        `empty` is what is said where there are none.
        """
        self._series = tuple(series)
        self._empty = empty
        self._front = self._series[-1] if series and front else None
        self.title = title or self.title
        if scale is not self.scale:
            self.scale, self.cursor = scale, None
        self._redraw()

    def colour(self, number: int) -> str:
        """What a curve of this colour is drawn in, as a style."""
        return self.get_component_styles(f"chart--{number % COLOURS}").color.hex

    def toggle_smoothing(self) -> None:
        """Show the mean of neighbouring points, the points themselves behind it."""
        self.smoothed = not self.smoothed
        self._redraw()

    def toggle_log(self) -> None:
        """Values on a logarithmic scale; what is not positive becomes a gap."""
        self.logarithmic = not self.logarithmic
        self._redraw()

    def move_cursor(self, cells: int) -> None:
        """Move by about so many columns, at least to the next point; from nowhere to the newest point. At the end it goes away."""
        lines = [series.across for series in self._series if len(series.x)]
        if not lines:
            return
        first, last = min(x[0] for x in lines), max(x[-1] for x in lines)
        if self.cursor is None:
            self.cursor = float(last if cells < 0 else first)
        else:
            wanted = self.cursor + cells * (last - first) / max(1, self.size.width - 6)
            if cells > 0:
                wanted = max(wanted, np.nextafter(self.cursor, np.inf))
                self.cursor = min(
                    (float(x[place]) for x in lines if (place := np.searchsorted(x, wanted)) < len(x)), default=None
                )
            else:
                wanted = min(wanted, np.nextafter(self.cursor, -np.inf))
                places = ((x, int(np.searchsorted(x, wanted, "right"))) for x in lines)
                self.cursor = max((float(x[place - 1]) for x, place in places if place), default=None)
        self._redraw()

    def on_resize(self, _: Resize) -> None:
        """Another size is another picture."""
        self._redraw()

    def notify_style_update(self) -> None:
        """So is another theme."""
        super().notify_style_update()
        if self.is_mounted:
            self._redraw()

    def render_line(self, y: int) -> Strip:
        """A line of the picture."""
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def _redraw(self) -> None:
        width, height = self.size
        if width < 1 or height < 1:
            return
        plain = self.rich_style
        self._looks = {name: self.get_component_rich_style(f"chart--{name}") for name in NAMES} | {"": plain}
        self._looks |= {f"{colour} strong": self._looks[str(colour)] + BOLD for colour in range(COLOURS)}
        old, self._strips = self._strips, self._picture(width, height)
        for y, strip in enumerate(self._strips):
            if y >= len(old) or old[y] != strip:
                self.refresh(Region(0, y, width, 1))

    # The picture

    def _picture(self, width: int, height: int) -> list[Strip]:
        layers = [(series, layer, look) for series in self._series for layer, look in self._layers(series)]
        layers.sort(key=lambda each: each[2] != FAINT)  # what lies behind one curve does not lie over another
        extents = [layer.extent for _, layer, _ in layers if layer.extent]
        rows = height - 3
        title = self._strip(self._title_parts(width), width)
        if not extents or rows < 1 or width < 16:
            words = self._empty or f"no {self.title} yet" if not self._series else f"{self.title}: nothing to draw"
            blank = Strip.blank(width, self._looks[""])
            below = [self._strip([(words.center(width), "axis")], width)] if height > 1 else []
            return [title, *below, *[blank] * (height - 1 - len(below))]
        y = plot.ticks(min(low for low, _ in extents), max(high for _, high in extents), max(2, rows // 2))
        names = [figures.value(10.0**tick) for tick in y.ticks] if self.logarithmic else plot.labels(y)
        margin = max(map(cell_len, names), default=1)
        room = width - margin - 1
        last = max(float(series.x[-1]) for series in self._series if len(series.x))
        x = self.scale.ticks(last, max(2, room // 12))
        body = self._body(layers, x, y, names, margin, (room, rows))
        return [title, *body, *(self._strip(line, width) for line in _x_axis(x, self.scale.labels(x), margin, room))]

    def _layers(self, series: Series) -> list[tuple[Layer, int]]:
        """What is drawn of a curve, the lowest first, and what in."""
        look = series.colour % COLOURS + (STRONG if series is self._front else 0)
        if not self.smoothed:
            layers = [(series.points, look)]
        elif len(self._series) <= FEW or series is self._front:
            layers = [(series.points, FAINT), (series.smoothed, look)]
        else:
            layers = [(series.smoothed, look)]
        return [(layer.logarithms, look) for layer, look in layers] if self.logarithmic else layers

    def _body(
        self,
        layers: Sequence[tuple[Series, Layer, int]],
        x: Axis,
        y: Axis,
        names: list[str],
        margin: int,
        room: tuple[int, int],
    ) -> list[Strip]:
        width, rows = room
        bits = np.zeros((rows, width), np.uint8)
        owner = np.full((rows, width), -1, np.int8)
        for series, layer, look in layers:
            drawn = plot.dots(series.across, layer.values, x, y, width, rows)
            bits |= drawn
            owner[drawn > 0] = look
        at = {
            round((y.high - tick) / (y.high - y.low) * (rows - 1)): name
            for tick, name in zip(y.ticks, names, strict=True)
        }
        column = None if self.cursor is None else round((self.cursor - x.low) / (x.high - x.low) * (width - 1))
        lines: list[Strip] = []
        for row in range(rows):
            axis = (at[row].rjust(margin) + "┤", "axis") if row in at else (" " * margin + "│", "axis")
            lines.append(self._strip([axis, *_runs(bits[row], owner[row], column)], margin + 1 + width))
        return lines

    def _title_parts(self, width: int) -> list[tuple[str, str]]:
        parts = [(self.title, "title")]
        if self.cursor is not None:
            parts.append((f" at {self.scale.at(self.cursor)}", "title"))
        for series in self._series if self.names else ():
            name = f"━ {series.name}" if len(self._series) > 1 else "━"
            parts += [("  ", ""), (name, str(series.colour % COLOURS)), (f" {figures.value(self._read(series))}", "")]
            if series.gaps:
                parts.append((f" {series.gaps} gap{'s' if series.gaps > 1 else ''}", "axis"))
        over = "" if self.scale is STEP else f"  over {self.scale.name}"
        for word, on in ((over, bool(over)), ("  smooth", self.smoothed), ("  log", self.logarithmic)):
            if on and sum(cell_len(text) for text, _ in parts) + len(word) <= width:
                parts.append((word, "axis"))
        return parts

    def _read(self, series: Series) -> float | None:
        if not len(series.values):
            return None
        if self.cursor is None:
            return float(series.values[-1])
        place = int(np.searchsorted(series.across, self.cursor))
        there = place < len(series.x) and series.x[place] == self.cursor
        return float(series.values[place]) if there else None

    def _strip(self, parts: Sequence[tuple[str, str]], width: int) -> Strip:
        segments = [Segment(text, self._looks[name]) for text, name in parts]
        return Strip(segments).adjust_cell_length(width, self._looks[""])


def _runs(bits: NDArray[np.uint8], owner: NDArray[np.int8], cursor: int | None) -> list[tuple[str, str]]:
    """A row of cells as text of one colour after another."""
    glyphs = np.where(bits > 0, plot.BRAILLE[bits], " ")
    looks = owner.copy()
    if cursor is not None and 0 <= cursor < len(glyphs) and not bits[cursor]:
        glyphs[cursor], looks[cursor] = "│", CURSOR
    bounds = [0, *(np.flatnonzero(np.diff(looks)) + 1).tolist(), len(glyphs)]
    return [("".join(glyphs[start:end]), _look(int(looks[start]))) for start, end in pairwise(bounds)]


def _look(owner: int) -> str:
    """The name of what a cell is drawn in."""
    if owner >= STRONG:
        return f"{owner - STRONG} strong"
    return {-1: "", FAINT: "faint", CURSOR: "cursor"}.get(owner, str(owner))


def _x_axis(x: Axis, names: list[str], margin: int, width: int) -> list[list[tuple[str, str]]]:
    """The line under the plot and the numbers under its ticks."""
    line, numbers = ["─"] * width, [" "] * (width + margin + 1)
    for tick, name in zip(x.ticks, names, strict=True):
        place = round((tick - x.low) / (x.high - x.low) * (width - 1))
        line[place] = "┬"
        start = min(margin + 1 + place - (len(name) - 1) // 2, len(numbers) - len(name))
        numbers[start : start + len(name)] = name
    return [[(" " * margin + "└" + "".join(line), "axis")], [("".join(numbers), "axis")]]
