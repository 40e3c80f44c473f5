"""A curve as a chart draws it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from screens.widgets import plot
from screens.widgets.plot import Floats

SMOOTHING: Final = 0.02  # share of the points that a smoothed one is the mean of; no fewer than 5


@dataclass(frozen=True, eq=False)
class Layer:
    """Values as they are drawn, NaN where there is a gap."""

    values: Floats

    @cached_property
    def extent(self) -> tuple[float, float] | None:
        """Lowest and highest finite value; None without any."""
        finite = self.values[np.isfinite(self.values)]
        return (float(finite.min()), float(finite.max())) if len(finite) else None

    @cached_property
    def logarithms(self) -> Layer:
        """Powers of ten; what is not positive is a gap."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return Layer(np.where(self.values > 0, np.log10(self.values), np.nan))


@dataclass(frozen=True, eq=False)
class Series:
    """A curve: `x` ascending, `values` as long, NaN where there is a gap. `colour` is a number that stays with whatever it shows.

    What has to look at all points is kept: a curve is drawn many times.
    """

    name: str
    x: NDArray[np.int64] | Floats
    values: Floats
    colour: int = 0

    @cached_property
    def across(self) -> Floats:
        """`x` as numbers that can be drawn."""
        return self.x.astype(np.float64, copy=False)

    @cached_property
    def points(self) -> Layer:
        """The values themselves."""
        return Layer(self.values)

    @cached_property
    def smoothed(self) -> Layer:
        """The mean of neighbouring points."""
        return Layer(plot.smooth(self.values, max(5, int(len(self.values) * SMOOTHING))))

    @cached_property
    def gaps(self) -> int:
        """How many values are not finite."""
        return int(np.count_nonzero(~np.isfinite(self.values)))

    def prepare(self, *, smoothed: bool) -> None:
        """Look at all points now, in a thread, so that no key has to wait for it: what is found is kept."""
        layer = self.smoothed if smoothed else self.points
        _ = self.gaps, self.points.extent, layer.extent, layer.logarithms.extent
