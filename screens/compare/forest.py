"""A forest plot a line at a time: each row's difference and its interval on one axis in points, 0 in every line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from engine.evaluate import statistics
from engine.evaluate.compare import ComparisonRow
from engine.evaluate.measures import METRICS
from engine.evaluate.wording import change, interval

STEPS: Final = (1, 2, 5, 10, 20, 25, 50, 100, 200)  # points between ticks
LEAST: Final = 10.0  # points on each side of 0 that the axis shows at least


@dataclass(frozen=True)
class Axis:
    """Points from `low` to `high`."""

    low: float
    high: float

    def column(self, points: float, width: int) -> int:
        """The column, 0 to `width` - 1, that shows this value; beyond the ends outside of that."""
        return round((points - self.low) / (self.high - self.low) * (width - 1))


def plotted(row: ComparisonRow) -> bool:
    """Whether the row's difference is in points."""
    return METRICS[row.metric].scale != "nats" and math.isfinite(row.difference)


def axis(rows: Iterable[ComparisonRow]) -> Axis:
    """An axis that holds all intervals, in whole steps, with some room on either side of 0."""
    ends = [100 * end for row in rows if plotted(row) for end in (row.low, row.high) if math.isfinite(end)]
    low, high = min([-LEAST, *ends]), max([LEAST, *ends])
    step = next((step for step in STEPS if (high - low) / step <= 8), STEPS[-1])
    return Axis(step * math.floor(low / step), step * math.ceil(high / step))


def ticks(scale: Axis, width: int) -> str:
    """The axis as a title: `-10    0     +10    +20`, as many as stand apart."""
    step = next((step for step in STEPS if width * step / (scale.high - scale.low) >= 7), STEPS[-1])
    line = [" "] * width
    points = step * math.ceil(scale.low / step)
    while points <= scale.high:
        label = f"{points:+.0f}" if points else "0"
        start = max(0, min(width - len(label), scale.column(points, width) - len(label) // 2))
        if all(letter == " " for letter in line[max(0, start - 1) : start + len(label) + 1]):
            line[start : start + len(label)] = label
        points += step
    return "".join(line)


def plot(row: ComparisonRow, scale: Axis, width: int) -> str:
    """`    │ ├──●──┤`; an interval that leaves the axis ends in an arrow. Other units are written out."""
    if not plotted(row):
        return interval(row) if math.isfinite(row.difference) else "nothing to tell from"
    line = [" "] * width
    line[max(0, min(width - 1, scale.column(0, width)))] = "│"
    if row.metric == "retained":
        margin = scale.column(-100 * (1 - statistics.MARGIN), width)
        if 0 <= margin < width:
            line[margin] = "┊"
    low, middle, high = (scale.column(100 * end, width) if math.isfinite(end) else None for end in _ends(row))
    left = max(0, low) if low is not None else 0
    right = min(width - 1, high) if high is not None else width - 1
    line[left : right + 1] = "─" * (right + 1 - left)
    line[left] = "├" if low is not None and low >= 0 else "◂"
    line[right] = "┤" if high is not None and high < width else "▸"
    if middle is not None:
        line[max(0, min(width - 1, middle))] = "●"
    return "".join(line)


def _ends(row: ComparisonRow) -> tuple[float, float, float]:
    return row.low, row.difference, row.high


def spoken(row: ComparisonRow) -> str:
    """The difference in words: `+15.4 points, 95 % between +9.8 and +21.0`."""
    unit = {"share": " points", "coefficient": "", "nats": " nats"}[METRICS[row.metric].scale]
    ends = f"{change(row.metric, row.low)} and {change(row.metric, row.high)}"
    return f"{change(row.metric, row.difference)}{unit}, 95 % between {ends}"
