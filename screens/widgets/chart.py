"""A line chart: several curves, axes with ticks, a title that names each curve and its value, a cursor that reads values out.

Drawn on the line API from `plot`; a new picture is compared with the old one and only lines that differ are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

from screens.widgets import figures, plot
from screens.widgets.plot import Axis, Floats

COLOURS: Final = 6
NAMES: Final = ("axis", "title", "cursor", "faint", *map(str, range(COLOURS)))
SMOOTHING: Final = 0.02  # share of the points that a smoothed one is the mean of; no fewer than 5


@dataclass(frozen=True, eq=False)
class Series:
    """A curve: `steps` ascending, `values` as long, NaN where there is a gap. `colour` is a number that stays with whatever it shows."""

    name: str
    steps: NDArray[np.int64]
    values: Floats
    colour: int = 0


class Chart(Widget):
    """Title line, plot, axis line, tick labels. `show` gives it curves; smoothing, logarithmic scale and cursor are its own."""

    DEFAULT_CSS = """
    Chart { height: 1fr; }
    Chart > .chart--axis { color: $text-muted; }
    Chart > .chart--title { text-style: bold; }
    Chart > .chart--cursor { color: $text-muted; }
    Chart > .chart--faint { color: $text-disabled; }
    Chart > .chart--0 { color: #56b4e9; }
    Chart > .chart--1 { color: #cc79a7; }
    Chart > .chart--2 { color: #e69f00; }
    Chart > .chart--3 { color: #009e73; }
    Chart > .chart--4 { color: #f0e442; }
    Chart > .chart--5 { color: #9aa7b4; }
    Chart:light > .chart--0 { color: #0072b2; }
    Chart:light > .chart--1 { color: #a3447a; }
    Chart:light > .chart--2 { color: #c65a00; }
    Chart:light > .chart--3 { color: #00795a; }
    Chart:light > .chart--4 { color: #8a7d00; }
    Chart:light > .chart--5 { color: #5b6670; }
    Chart:ansi > .chart--0 { color: ansi_cyan; }
    Chart:ansi > .chart--1 { color: ansi_magenta; }
    Chart:ansi > .chart--2 { color: ansi_yellow; }
    Chart:ansi > .chart--3 { color: ansi_green; }
    Chart:ansi > .chart--4 { color: ansi_blue; }
    Chart:ansi > .chart--5 { color: ansi_white; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chart--{name}" for name in NAMES}

    def __init__(self, title: str, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.title = title
        self.smoothed = False
        self.logarithmic = False
        self.cursor: int | None = None
        self._series: tuple[Series, ...] = ()
        self._strips: list[Strip] = []
        self._looks: dict[str, Style] = {}

    def show(self, series: Sequence[Series], title: str | None = None) -> None:
        """These curves from now on, the last one on top."""
        self._series = tuple(series)
        self.title = title or self.title
        self._redraw()

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
        steps = np.unique(np.concatenate([series.steps for series in self._series])) if self._series else np.empty(0)
        if not len(steps):
            return
        if self.cursor is None:
            self.cursor = int(steps[-1] if cells < 0 else steps[0])
        else:
            column = (steps[-1] - steps[0]) / max(1, self.size.width - 6)
            wanted = self.cursor + cells * column
            beyond = (
                steps[steps >= max(wanted, self.cursor + 1)]
                if cells > 0
                else steps[steps <= min(wanted, self.cursor - 1)]
            )
            self.cursor = int(beyond[0] if cells > 0 else beyond[-1]) if len(beyond) else None
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
        old, self._strips = self._strips, self._picture(width, height)
        for y, strip in enumerate(self._strips):
            if y >= len(old) or old[y] != strip:
                self.refresh(Region(0, y, width, 1))

    # The picture

    def _picture(self, width: int, height: int) -> list[Strip]:
        curves = [(series, self._scaled(series.values)) for series in self._series]
        finite = [values[np.isfinite(values)] for _, values in curves]
        rows = height - 3
        title = self._strip(self._title_parts(width), width)
        if not any(map(len, finite)) or rows < 1 or width < 16:
            words = f"no {self.title} yet" if not self._series else f"{self.title}: nothing to draw"
            blank = Strip.blank(width, self._looks[""])
            below = [self._strip([(words.center(width), "axis")], width)] if height > 1 else []
            return [title, *below, *[blank] * (height - 1 - len(below))]
        y = plot.ticks(
            min(f.min() for f in finite if len(f)), max(f.max() for f in finite if len(f)), max(2, rows // 2)
        )
        names = self._tick_names(y)
        margin = max(map(cell_len, names), default=1)
        room = width - margin - 1
        last = max(float(series.steps[-1]) for series, _ in curves if len(series.steps))
        x = plot.ticks(0.0, max(last, 1.0), min(max(2, room // 12), max(1, int(last))))  # no parts of a step
        body = self._body(curves, x, y, names, margin, (room, rows))
        return [title, *body, *(self._strip(line, width) for line in _x_axis(x, margin, room))]

    def _scaled(self, values: Floats) -> Floats:
        if not self.logarithmic:
            return values
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(values > 0, np.log10(values), np.nan)

    def _tick_names(self, y: Axis) -> list[str]:
        return [figures.value(10.0**tick) for tick in y.ticks] if self.logarithmic else plot.labels(y)

    def _body(
        self,
        curves: list[tuple[Series, Floats]],
        x: Axis,
        y: Axis,
        names: list[str],
        margin: int,
        room: tuple[int, int],
    ) -> list[Strip]:
        width, rows = room
        bits = np.zeros((rows, width), np.uint8)
        owner = np.full((rows, width), -1, np.int8)
        for series, values in curves:
            layers = [(values, series.colour % COLOURS)]
            if self.smoothed:
                window = max(5, int(len(values) * SMOOTHING))
                layers = [(values, COLOURS), (plot.smooth(values, window), series.colour % COLOURS)]
            for layer, colour in layers:
                drawn = plot.dots(series.steps.astype(np.float64), layer, x, y, width, rows)
                bits |= drawn
                owner[drawn > 0] = colour
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
            parts.append((f" at step {self.cursor}", "title"))
        for series in self._series:
            name = f"━ {series.name}" if len(self._series) > 1 else "━"
            parts += [("  ", ""), (name, str(series.colour % COLOURS)), (f" {figures.value(self._read(series))}", "")]
            gaps = int(np.count_nonzero(~np.isfinite(series.values)))
            if gaps:
                parts.append((f" {gaps} gap{'s' if gaps > 1 else ''}", "axis"))
        for word, on in (("  smooth", self.smoothed), ("  log", self.logarithmic)):
            if on and sum(cell_len(text) for text, _ in parts) + len(word) <= width:
                parts.append((word, "axis"))
        return parts

    def _read(self, series: Series) -> float | None:
        if not len(series.values):
            return None
        if self.cursor is None:
            return float(series.values[-1])
        place = int(np.searchsorted(series.steps, self.cursor))
        there = place < len(series.steps) and series.steps[place] == self.cursor
        return float(series.values[place]) if there else None

    def _strip(self, parts: Sequence[tuple[str, str]], width: int) -> Strip:
        segments = [Segment(text, self._looks[name]) for text, name in parts]
        return Strip(segments).adjust_cell_length(width, self._looks[""])


def _runs(bits: NDArray[np.uint8], owner: NDArray[np.int8], cursor: int | None) -> list[tuple[str, str]]:
    """A row of cells as text of one colour after another."""
    glyphs = np.where(bits > 0, plot.BRAILLE[bits], " ")
    colours = owner.copy()
    if cursor is not None and 0 <= cursor < len(glyphs) and not bits[cursor]:
        glyphs[cursor], colours[cursor] = "│", COLOURS + 1
    names = {-1: "", COLOURS: "faint", COLOURS + 1: "cursor"}
    bounds = [0, *(np.flatnonzero(np.diff(colours)) + 1).tolist(), len(glyphs)]
    return [
        ("".join(glyphs[start:end]), names.get(int(colours[start]), str(int(colours[start]))))
        for start, end in pairwise(bounds)
    ]


def _x_axis(x: Axis, margin: int, width: int) -> list[list[tuple[str, str]]]:
    """The line under the plot and the numbers under its ticks."""
    line, numbers = ["─"] * width, [" "] * (width + margin + 1)
    for tick, name in zip(x.ticks, (figures.count(tick) for tick in x.ticks), strict=True):
        place = round((tick - x.low) / (x.high - x.low) * (width - 1))
        line[place] = "┬"
        start = min(margin + 1 + place - (len(name) - 1) // 2, len(numbers) - len(name))
        numbers[start : start + len(name)] = name
    return [[(" " * margin + "└" + "".join(line), "axis")], [("".join(numbers), "axis")]]
