"""How a metric's figures are written: shares in points of 100, coefficients and nats as they are; a dash for what is
not known.
"""

from __future__ import annotations

import math
from typing import Final

from engine.evaluate.compare import ComparisonRow
from engine.evaluate.measures import METRICS

NOTHING: Final = "–"
MARKS: Final = {"better": "+", "worse": "-", "kept": "=", "cannot tell": "?"}


def figure(metric: str, value: float) -> str:
    """`71.2` for a share, `.12` for a coefficient, `1.03` for nats."""
    if not math.isfinite(value):
        return NOTHING
    scale = METRICS[metric].scale
    if scale == "share":
        return f"{100 * value:.1f}"
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if scale == "coefficient" else text


def change(metric: str, value: float) -> str:
    """As `figure`, with its sign; an end of an interval that is open is infinite."""
    if math.isinf(value):
        return "+∞" if value > 0 else "-∞"
    text = figure(metric, value)
    return text if text.startswith("-") or text == NOTHING else f"+{text}"


def interval(row: ComparisonRow) -> str:
    """`+15.4 [+9.8, +21.0]`."""
    ends = f"[{change(row.metric, row.low)}, {change(row.metric, row.high)}]"
    return f"{change(row.metric, row.difference)} {ends}"


def count(row: ComparisonRow) -> str:
    """Questions, and how many answers where each was asked several times: `42 (202)`."""
    return str(row.n) if row.answers == row.n else f"{row.n} ({row.answers})"


def cells(row: ComparisonRow) -> tuple[str, ...]:
    """A row of a table: verdict, suite and metric, run, against, the other's figure, the run's, difference, p, n, what it sees from."""
    figures = figure(row.metric, row.base), figure(row.metric, row.value), interval(row)
    sees = figure(row.metric, row.visible)
    return (row.verdict, row.title, row.run, row.against, *figures, probability(row.p), count(row), sees)


def probability(p: float | None) -> str:
    """`.012`, `<.001`, or a dash."""
    if p is None:
        return NOTHING
    return "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)
