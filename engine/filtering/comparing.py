"""What a field, an operator and values say of a row."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

Value: TypeAlias = "str | int | float | bool | tuple[str, ...] | None"
"""What a row has for a field: durations in seconds, tags as several texts, None where it has none."""

Kind = Literal["text", "number", "duration", "choice", "tags", "any"]
"""`choice` is a text that is one of a few known ones; `any` a setting, which may be a number, a text, or a list of them."""

Test: TypeAlias = Callable[[Value], bool]

EQUAL: Final = ("=", "!=")
WITHIN: Final = ("~", "!~")
ORDER: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATORS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "text": ("~", "=", "!~", "!="),
    "choice": (*EQUAL, *WITHIN),
    "tags": (*EQUAL, *WITHIN),
    "number": (*ORDER, *EQUAL),
    "duration": tuple(ORDER),
    "any": (*EQUAL, *ORDER, *WITHIN),
}
"""What may stand between a field and its values, the likeliest first."""

CALLED: Final[Mapping[Kind, str]] = {
    "text": "a text",
    "choice": "a word",
    "tags": "a list of words",
    "number": "a number such as 1e-4, .5, 4.1k or nan",
    "duration": "a duration such as 90s, 12m, 3h, 2d or 1w",
    "any": "a number or a text",
}
"""What the values of a field are, in words."""

SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
MANY: Final = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}

_NUMBER: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,3})?)([kmgt]?)|[+-]?inf|nan", re.ASCII)
_DURATION: Final = re.compile(r"(\d+\.?\d*|\.\d+)([smhdwy])", re.ASCII)


@dataclass(frozen=True)
class Field:
    """Something that rows can be told apart by; `help` is a few words, `aliases` are other names, `values` those that a choice has."""

    name: str
    kind: Kind
    help: str
    values: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


def by_name(fields: Iterable[Field]) -> dict[str, Field]:
    """Fields by their names and aliases in lower case; a name goes before an alias."""
    known = list(fields)
    aliases = {alias.casefold(): each for each in known for alias in each.aliases}
    return {**aliases, **{each.name.casefold(): each for each in known}}


def number(text: str) -> float | None:
    """`1e-4`, `.5`, `4.1k`, `2M`, `nan`, `-inf`; None for anything else."""
    found = _NUMBER.fullmatch(text.casefold())
    if found is None:
        return None
    return float(found[1]) * MANY[found[2]] if found[1] else float(found[0])


def duration(text: str) -> float | None:
    """Seconds in `90s`, `12m`, `3h`, `2d`, `1w`, `1y`; None for anything else."""
    found = _DURATION.fullmatch(text.casefold())
    return float(found[1]) * SECONDS[found[2]] if found else None


def wrong(value: str, of: Field, symbol: str) -> str:
    """Why `value` cannot stand behind `symbol` in words; empty where it can."""
    if symbol in WITHIN or (symbol in EQUAL and not value):
        return ""
    if of.kind == "choice":
        known = any(each.casefold().startswith(value.casefold()) for each in of.values)
        return "" if known else f"there is no {of.name} {value}"
    if of.kind == "duration" and duration(value) is None:
        return f"{value!r} is not {CALLED['duration']}"
    if (of.kind == "number" or symbol in ORDER) and of.kind != "duration" and number(value) is None:
        return f"{value!r} is not {CALLED['number']}"
    return ""


class _Wanted(NamedTuple):
    """A value of a filter as it is compared: in lower case, and as a number if it is one."""

    text: str
    number: float | None


def comparison(of: Field, symbol: str, values: Sequence[str]) -> Test:
    """What tells whether a row's value passes. `symbol` is one of the field's, and `wrong` has nothing against any of `values`."""
    if symbol in ORDER:
        limit = duration(values[0]) if of.kind == "duration" else number(values[0])
        assert limit is not None
        return _ordered(ORDER[symbol], limit, texts=of.kind == "any")
    wanted = [_Wanted(value.casefold(), number(value)) for value in values]
    one = _contains if symbol in WITHIN else _begins if of.kind == "choice" else _equals
    if symbol.startswith("!"):
        return lambda value: value is not None and not any(one(value, each) for each in wanted)
    if len(wanted) == 1:  # the usual case, three times as fast: it runs for every row at every key
        only = wanted[0]
        return lambda value: one(value, only)
    return lambda value: any(one(value, each) for each in wanted)


def _ordered(compare: Callable[[float, float], bool], limit: float, *, texts: bool) -> Test:
    """`texts` that are numbers count as such: columns of a table often are."""

    def test(value: Value) -> bool:
        if texts and isinstance(value, str):
            value = number(value.strip())
        return isinstance(value, int | float) and not isinstance(value, bool) and compare(value, limit)

    return test


def _equals(value: Value, wanted: _Wanted) -> bool:
    if isinstance(value, str):
        return value.casefold() == wanted.text
    if value is None or not wanted.text:
        return not wanted.text and value in (None, ())
    if isinstance(value, bool):
        return str(value).casefold() == wanted.text
    if isinstance(value, int | float):
        return wanted.number is not None and _same(value, wanted.number)
    return any(each.casefold() == wanted.text for each in value)


def _same(value: float, wanted: float) -> bool:
    """Equal but for the last digits, which a number that was read from decimals may differ in."""
    try:
        return math.isclose(value, wanted, rel_tol=1e-9) or (math.isnan(value) and math.isnan(wanted))
    except OverflowError:  # a whole number beyond float64, which no text of a filter means
        return False


def _begins(value: Value, wanted: _Wanted) -> bool:
    if isinstance(value, tuple):
        return any(_begins(each, wanted) for each in value) if wanted.text else not value
    if isinstance(value, str) and wanted.text:
        return value.casefold().startswith(wanted.text)
    return _equals(value, wanted)


def _contains(value: Value, wanted: _Wanted) -> bool:
    if isinstance(value, str):
        return wanted.text in value.casefold()
    if value is None:
        return False
    if isinstance(value, bool | int | float):
        return wanted.text in str(value).casefold()
    return any(wanted.text in each.casefold() for each in value)
