"""What is known about the values of a profile: why they are there, what was measured, what is usual; and how many rows a model should have.

The words and their sources are in `profiles/advice.toml`. Nothing here refuses anything: what is possible the profile says.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from engine.places import shipped

NUMBERED: Final = re.compile(r"^data\.\d+(?=\.|$)")
HEURISTIC: Final = "a rule of thumb, measured by nobody"
"""What is to be said wherever the number of rows is judged."""


@dataclass(frozen=True)
class Known:
    """What somebody found out, and where it is written."""

    says: str
    source: str


@dataclass(frozen=True)
class Usual:
    """`says` is for people; outside of `low` to `high` a number is unusual. With `per` they are multiples of another key's value.

    `when` are dotted keys and the values that they must have one of.
    """

    says: str
    low: float
    high: float
    when: tuple[tuple[str, tuple[object, ...]], ...] = ()
    per: str = ""


@dataclass(frozen=True)
class Advice:
    """About one key. `thumb` is a rule of thumb, empty where there is none."""

    why: str
    thumb: str
    literature: tuple[Known, ...]
    usual: tuple[Usual, ...]


@dataclass(frozen=True)
class Rows:
    """How many rows a model with fewer than `below` parameters should have for supervised fine-tuning; a heuristic."""

    below: float
    least: int
    ideal: tuple[int, int]


def about(key: str) -> Advice | None:
    """What is known about a dotted key; of a data source its number does not matter."""
    return _all()[0].get(NUMBERED.sub("data", key))


def usual(key: str, value: Callable[[str], object]) -> Usual | None:
    """What is usual for a key where the others are what `value` says; None where nothing is."""
    advice = about(key)
    if advice is None:
        return None
    return next(
        (each for each in advice.usual if all(value(other) in wanted for other, wanted in each.when)),
        None,
    )


def unusual(key: str, value: Callable[[str], object]) -> str:
    """Why the value of a key is far from what is usual; empty where it is not, or is no number."""
    found, there = usual(key, value), value(key)
    if found is None or isinstance(there, bool) or not isinstance(there, int | float):
        return ""
    scale = 1.0
    if found.per:
        other = value(found.per)
        if isinstance(other, bool) or not isinstance(other, int | float):
            return ""
        scale = float(other)
    if there == 0 or found.low * scale <= there <= found.high * scale:  # zero switches something off: that is meant
        return ""
    return f"{'low' if there < found.low * scale else 'high'}: usual {found.says}"


def rows_for(parameters: int) -> Rows:
    """How many rows a model with so many parameters should have."""
    return next(each for each in _all()[1] if parameters < each.below)


def row_notes(objective: str, rows: int, parameters: int | None) -> list[str]:
    """What to say of the number of training rows; nothing where it is enough, or where no rule is known: not of sft, or of an unknown model."""
    if objective != "sft" or parameters is None:
        return []
    wanted = rows_for(parameters)
    if rows >= wanted.least:
        return []
    size = "10B parameters and more" if math.isinf(wanted.below) else f"less than {wanted.below / 1e9:g}B parameters"
    return [
        f"{rows:,} training rows are few: for {size} {wanted.least:,} at least, "
        f"better {wanted.ideal[0]:,} to {wanted.ideal[1]:,} ({HEURISTIC})"
    ]


@cache
def _all() -> tuple[Mapping[str, Advice], tuple[Rows, ...]]:
    told = tomllib.loads((shipped() / "advice.toml").read_text(encoding="utf-8"))
    rows = tuple(Rows(each["below"], each["least"], (each["ideal"][0], each["ideal"][1])) for each in told.pop("rows"))
    return {key: _advice(value) for key, value in told.items()}, rows


def _advice(told: Mapping[str, object]) -> Advice:
    known, usual_ = told.get("literature", []), told.get("usual", [])
    assert isinstance(known, list) and isinstance(usual_, list)
    return Advice(
        why=str(told["why"]),
        thumb=str(told.get("thumb", "")),
        literature=tuple(Known(each["says"], each["source"]) for each in known),
        usual=tuple(
            Usual(
                each["says"],
                each["low"],
                each["high"],
                tuple((key, tuple(wanted)) for key, wanted in each.get("when", {}).items()),
                each.get("per", ""),
            )
            for each in usual_
        ),
    )
