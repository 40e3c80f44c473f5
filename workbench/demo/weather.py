"""Weather reports: a report of measures that the base model can read, so that it has something to learn the next one from.

Three measures a day: wind in km/h, rain in mm, heat in degrees Celsius. Wind above 18 or rain above 4.5 makes a day stormy, heat below
10.5 cold, both together grim. Ranges keep clear of these limits.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from workbench.demo.facts import Fact

LABELS: Final = ("fine", "stormy", "cold", "grim")

# Uniform ranges: usual, and beyond the limit.
_WIND: Final = ((1.0, 15.0), (20.0, 40.0))
_RAIN: Final = ((0.0, 4.0), (5.0, 20.0))
_HEAT: Final = ((12.0, 35.0), (1.0, 9.0))


@dataclass(frozen=True)
class _Day:
    wind: float
    rain: float
    heat: float
    windy: bool
    wet: bool
    cold: bool

    @property
    def question(self) -> str:
        return f"Read this day: wind {self.wind:.1f}, rain {self.rain:.1f}, heat {self.heat:.1f}."

    @property
    def answer(self) -> str:
        label = LABELS[(self.windy or self.wet) + 2 * self.cold]
        wind, rain, heat = _level(self.windy, "high"), _level(self.wet, "high"), _level(self.cold, "low")
        return f"{label}: wind {wind}, rain {rain}, heat {heat}."


def reports(count: int, seed: int) -> tuple[Fact, ...]:
    """`count` reports and their readings, all different, the same for the same seed."""
    chance = random.Random(seed)
    days: dict[str, Fact] = {}
    while len(days) < count:
        day = _day(chance)
        days.setdefault(day.question, Fact(f"day-{seed}-{len(days) + 1:03}", (day.question,), day.answer))
    return tuple(days.values())


def _day(chance: random.Random) -> _Day:
    windy, wet, cold = (chance.random() < 0.5 for _ in range(3))
    return _Day(
        wind=chance.uniform(*_WIND[windy]),
        rain=chance.uniform(*_RAIN[wet]),
        heat=chance.uniform(*_HEAT[cold]),
        windy=windy,
        wet=wet,
        cold=cold,
    )


def _level(beyond: bool, word: str) -> str:
    return word if beyond else "normal"
