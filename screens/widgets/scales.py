"""What a chart's horizontal axis may count: optimizer steps, tokens, time at work, epochs. Each has round ticks and words of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from screens.widgets import figures, plot
from screens.widgets.plot import Axis

UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))
ROUND: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
"""Seconds between two ticks that people can add up."""


@dataclass(frozen=True)
class Scale:
    """`ticks` makes an axis from 0 to the largest value with at most about so many ticks, `labels` names them, `at` says a single value."""

    name: str
    ticks: Callable[[float, int], Axis]
    labels: Callable[[Axis], list[str]]
    at: Callable[[float], str]


def _whole(last: float, most: int) -> Axis:
    return plot.ticks(0.0, max(last, 1.0), min(most, max(1, int(last))))  # no parts of a step


def _counts(axis: Axis) -> list[str]:
    return [figures.count(tick) for tick in axis.ticks]


def _parts(last: float, most: int) -> Axis:
    return plot.ticks(0.0, last if last > 0 else 1.0, most)


def _spans(last: float, most: int) -> Axis:
    """From 0 to half a tick behind the last second."""
    rough = max(last, 1.0) / max(1, most)
    step = next((float(each) for each in ROUND if each >= rough), 0.0)
    if not step:  # days, counted as any number is
        days = plot.ticks(0.0, last / 86_400, most)
        return Axis(0.0, days.high * 86_400, tuple(tick * 86_400 for tick in days.ticks), days.step * 86_400)
    halves = max(1, -int(-max(last, 1.0) // (step / 2)))
    return Axis(0.0, halves * step / 2, tuple(place * step for place in range(halves // 2 + 1)), step)


def span(seconds: float) -> str:
    """A time in its two largest units: `45s`, `1m30s`, `2h`, `1d12h`."""
    left = round(seconds)
    parts: list[str] = []
    for unit, letter in UNITS:
        number, left = divmod(left, unit)
        if number or (parts and left):
            parts.append(f"{number}{letter}")
        if len(parts) == 2 or (parts and not left):
            break
    return "".join(parts) or "0"


STEP: Final = Scale("step", _whole, _counts, lambda value: f"step {value:.0f}")
TOKENS: Final = Scale("tokens", _whole, _counts, lambda value: f"{value:,.0f} tokens")
TIME: Final = Scale("time", _spans, lambda axis: [span(tick) for tick in axis.ticks], span)
EPOCH: Final = Scale("epoch", _parts, plot.labels, lambda value: f"epoch {value:.2f}")
SCALES: Final = (STEP, TOKENS, TIME, EPOCH)
