"""Curves as braille: from points to dots, axes and ticks; NumPy only, nothing of the terminal.

A dot column shows the lowest and the highest value that fall into it, so that no spike is lost however many points there are. Points
that are not finite are gaps: the line stops and goes on, and they are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
WEIGHTS: Final = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], np.uint8)
"""Bits of the dots in a braille cell, 4 rows by 2 columns (Unicode block 2800)."""

BRAILLE: Final = np.array([chr(0x2800 + bits) for bits in range(256)])


@dataclass(frozen=True)
class Axis:
    """A range and its ticks, in the units of the data; with `log`, range and ticks are powers of ten."""

    low: float
    high: float
    ticks: tuple[float, ...]
    step: float


def ticks(low: float, high: float, most: int) -> Axis:
    """An axis over low..high with at most about `most` ticks at 1, 2 or 5 times a power of ten.

    The ends are moved out to half steps, so that they stay put while values change a little.
    """
    if high <= low:
        wide = abs(low) * 0.1 or 1.0
        low, high = low - wide / 2, high + wide / 2
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1.0, 2.0, 5.0) if factor * power >= rough * 0.999), 10.0 * power)
    start = math.floor(low / step * 2 + 1e-9) * step / 2
    end = math.ceil(high / step * 2 - 1e-9) * step / 2
    first, last = math.ceil(start / step - 1e-9), math.floor(end / step + 1e-9)
    return Axis(start, end, tuple(place * step for place in range(first, last + 1)), step)


def labels(axis: Axis) -> list[str]:
    """The ticks as text that tells them apart: `.85`, `1.2`, `12k`, `2e-5`; all with the decimals that the step needs."""
    largest = max(map(abs, axis.ticks), default=0.0)
    if 0 < largest < 1e-3:
        digits = math.floor(math.log10(largest) + 1e-9) - math.floor(math.log10(axis.step) + 1e-9)
        return [_exponent(f"{tick:.{digits}e}") if tick else "0" for tick in axis.ticks]
    thousands = min(4, int(math.log10(largest) / 3 + 1e-9)) if largest >= 10_000 else 0
    unit = 1000.0**thousands
    decimals = max(0, -math.floor(math.log10(axis.step / unit) + 1e-9))
    return [_plain(tick / unit, decimals) + ("", "k", "M", "G", "T")[thousands] for tick in axis.ticks]


def _exponent(text: str) -> str:
    mantissa, exponent = text.split("e")
    return f"{mantissa}e{int(exponent)}"


def _plain(number: float, decimals: int) -> str:
    text = f"{number:.{decimals}f}"
    if not float(text):
        return "0"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def dots(across: Floats, values: Floats, x: Axis, y: Axis, width: int, height: int) -> NDArray[np.uint8]:
    """The curve as braille bits, one uint8 a cell, [height, width] in cells. `across` ascends."""
    if width < 1 or height < 1:
        return np.zeros((max(0, height), max(0, width)), np.uint8)
    low, high = spans(across, values, x, 2 * width)
    rows = 4 * height
    scale = (rows - 1) / (y.high - y.low)
    covered = np.isfinite(low)
    top = np.clip(np.rint((y.high - np.where(covered, high, y.high)) * scale), 0, rows - 1)
    bottom = np.clip(np.rint((y.high - np.where(covered, low, y.high)) * scale), 0, rows - 1)
    row = np.arange(rows)[:, None]
    lit = (row >= top) & (row <= bottom) & covered
    bits = np.zeros((height, width), np.uint8)
    for dot, weight in np.ndenumerate(WEIGHTS):
        bits |= lit[dot[0] :: 4, dot[1] :: 2] * weight
    return bits


def spans(across: Floats, values: Floats, x: Axis, columns: int) -> tuple[Floats, Floats]:
    """Lowest and highest value that the line reaches in each of `columns` columns over the axis; NaN where it does not go.

    Exact for any number of points: columns are looked up in the points, not points sorted into columns.
    """
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    finite = np.isfinite(values)
    whole = bool(finite.all())
    places = None if whole else np.flatnonzero(finite)
    if places is not None:
        across, values = across[places], values[places]
    if not len(values):
        return low, high
    edges = x.low + (np.arange(columns + 1) - 0.5) * (x.high - x.low) / max(1, columns - 1)
    after = np.searchsorted(across, edges)
    used = after[:-1] < after[1:]
    if used.any():
        inside, starts = values[: after[-1]], after[:-1][used]
        low[used], high[used] = np.minimum.reduceat(inside, starts), np.maximum.reduceat(inside, starts)
    between = (after > 0) & (after < len(across))
    if places is not None:  # no line over a gap
        between[between] = places[after[between]] - places[after[between] - 1] == 1
    at = np.where(between, np.interp(edges, across, values), np.nan)
    return np.fmin(low, np.fmin(at[:-1], at[1:])), np.fmax(high, np.fmax(at[:-1], at[1:]))


def smooth(values: Floats, window: int) -> Floats:
    """The mean over `window` points around each, of those that are finite; gaps stay gaps."""
    if window <= 1 or not len(values):
        return values
    finite = np.isfinite(values)
    sums = _moving(np.where(finite, values, 0.0), window)
    if finite.all():
        return sums / _moving(np.ones(len(values)), window)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(finite, sums / _moving(finite.astype(np.float64), window), np.nan)


def _moving(values: Floats, window: int) -> Floats:
    """Sums over `window` points around each, of fewer at the ends.

    Nothing is subtracted, or a value of 1e20 would take what is left of the others with it: blocks as long as the window are summed up
    from either end, and each window is the end of one block and the beginning of the next (van Herk, Pattern Recognition Letters 13, 1992).
    """
    size, window = len(values), min(window, 2 * len(values))
    blocks = np.zeros((-(-(size + window) // window), window))
    blocks.reshape(-1)[window // 2 : window // 2 + size] = values
    upward = blocks.cumsum(axis=1).reshape(-1)
    downward = np.flip(np.flip(blocks, 1).cumsum(axis=1), 1).reshape(-1)
    first = np.arange(size)
    sums: Floats = upward[window - 1 : window - 1 + size] + np.where(first % window, downward[:size], 0.0)
    return sums


def sparkline(values: Floats, width: int) -> str:
    """A curve in one line of `width` cells, from its lowest to its highest value."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return " " * width
    low, high = float(finite.min()), float(finite.max())
    y = Axis(low, high if high > low else low + 1.0, (), 1.0)
    x = Axis(0.0, float(max(1, len(values) - 1)), (), 1.0)
    return "".join(BRAILLE[dots(np.arange(len(values), dtype=np.float64), values, x, y, width, 1)[0]])
