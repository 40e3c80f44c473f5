"""A curve for a picture that has fewer columns than it has points: each column's exact lowest and highest value.

Nothing is sampled or averaged away: a spike of one step among 100,000 is in the picture. What cannot be drawn (NaN and infinities) is
counted where it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.ledger.metrics import Curve


@dataclass(frozen=True, eq=False)
class Thinned:
    """As many columns as were asked for, from `start` to `end`, all equally wide; a point on an edge belongs to the column behind it.

    `low` and `high` are the extremes of a column's finite values, NaN where it has none; `points` counts all in it, `gaps` those
    of them that are NaN or infinite.
    """

    start: float
    end: float
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    points: NDArray[np.int64]
    gaps: NDArray[np.int64]


def thinned(curve: Curve, columns: int) -> Thinned:
    """The curve by step, from its first to its last."""
    return thinned_by(curve.steps, curve.values, columns)


def thinned_by(
    places: NDArray[np.int64] | NDArray[np.float64],
    values: NDArray[np.float64],
    columns: int,
    span: tuple[float, float] | None = None,
) -> Thinned:
    """`values` at `places` (steps, seconds, tokens, in any order) between the ends of `span`; without one, all of them.

    Points outside of `span` or at no place (NaN) are left out.

    Raises:
        ValueError: there are no columns.
    """
    if columns < 1:
        raise ValueError("a picture has at least one column")
    known = np.isfinite(places)
    start, end = span or ((float(places[known].min()), float(places[known].max())) if known.any() else (0.0, 0.0))
    inside = known & (places >= start) & (places <= end)
    places, values = places[inside], values[inside]
    width = (end - start) or 1.0
    column = np.minimum((places - start) * columns / width, columns - 1).astype(np.int64)
    finite = np.isfinite(values)
    low, high = np.full(columns, np.inf), np.full(columns, -np.inf)
    np.minimum.at(low, column[finite], values[finite])
    np.maximum.at(high, column[finite], values[finite])
    points = np.bincount(column, minlength=columns)
    drawn = np.bincount(column[finite], minlength=columns)
    low[drawn == 0] = high[drawn == 0] = np.nan
    return Thinned(start, end, low, high, points, points - drawn)
