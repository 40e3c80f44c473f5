"""What is wrong with a profile, in words: the line, the key, what was found, what is allowed, and the nearest right word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import tomlkit
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from tomlkit.exceptions import TOMLKitError

from engine.errors import closest
from engine.profile import Profile

Place = tuple[str | int, ...]
KEY_FIRST: Final = re.compile(r"([a-z_]+(?:\.[a-z_0-9]+)+) = ")  # how a message about several keys begins
SHOWN: Final = 60  # characters of what was found


def described(error: ValidationError) -> dict[Place, str]:
    """What is wrong at each place, one sentence each, in the order of the classes.

    A value that several kinds are allowed for gets one sentence about all of them. What concerns several keys stands at the
    one that its message begins with.
    """
    found: dict[Place, str] = {}
    for detail in error.errors(include_url=False, include_context=False):
        place, field = _field(detail["loc"])
        if not place and (named := KEY_FIRST.match(_message(detail))):
            place = tuple(int(part) if part.isdigit() else part for part in named[1].split("."))
        found.setdefault(place, _sentence(detail, place, field))
    # A list whose members are wrong is also said to be too short.
    return {place: said for place, said in found.items() if not any(_inside(other, place) for other in found)}


def _inside(inner: Place, outer: Place) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def line_of(text: str, place: Place) -> int | None:
    """The line of a key in TOML text, else of the table that it stands in or would; None when there is neither."""
    best: tuple[int, int] | None = None  # how much of the place matches, line
    for number, here in _known_places(text):
        if here == place[: len(here)] and (best is None or len(here) > best[0]):
            best = (len(here), number)
    return best[1] if best else None


@lru_cache(maxsize=4)
def _known_places(text: str) -> tuple[tuple[int, Place], ...]:
    """Asked for at every key, while the text stays the same."""
    return tuple(_places(text))


def _places(text: str) -> Iterator[tuple[int, Place]]:
    """Every header and key with its line. TOML libraries keep no lines, so this reads just enough of the grammar."""
    table: Place = ()
    counts: dict[Place, int] = {}
    closing = ""  # the quotes that end a text of several lines
    for number, line in enumerate(text.splitlines(), 1):
        if closing:
            closing = "" if closing in line else closing
            continue
        stripped = line.strip()
        if match := re.match(r"\[\[(.+?)\]\]", stripped):
            name = _numbered(_key(match[1]), counts)
            counts[name] = counts.get(name, -1) + 1
            table = (*name, counts[name])
            yield number, table
        elif match := re.match(r"\[([^\[\]]+)\]\s*(#.*)?$", stripped):
            table = _numbered(_key(match[1]), counts)
            yield number, table
        elif match := re.match(r"([^=#\[\]{}]+)=(.*)", stripped):
            yield number, (*table, *_key(match[1]))
            closing = next((mark for mark in ('"""', "'''") if match[2].count(mark) == 1), "")


def _key(text: str) -> Place:
    """A dotted key as its parts, quotes respected; empty when it is none."""
    try:
        inner: object = tomlkit.parse(f"{text} = 0").unwrap()
    except TOMLKitError:
        return ()
    parts: list[str | int] = []
    while isinstance(inner, dict):
        ((part, inner),) = inner.items()
        parts.append(part)
    return tuple(parts)


def _numbered(name: Place, counts: dict[Place, int]) -> Place:
    """[data.columns] means the newest [[data]]."""
    numbered: Place = ()
    for part in name[:-1]:
        numbered = (*numbered, part)
        if numbered in counts:
            numbered = (*numbered, counts[numbered])
    return (*numbered, *name[-1:])


def _field(location: Sequence[str | int]) -> tuple[Place, FieldInfo | None]:
    """The place of a key, without pydantic's names of union members, and its field where there is such a key."""
    place: list[str | int] = []
    kind: type[BaseModel] | None = Profile
    field: FieldInfo | None = None
    for part in location:
        if kind is None:
            if field is not None and get_origin(field.annotation) is dict:
                place.append(part)
            break
        place.append(part)
        if isinstance(part, int):
            continue
        field = kind.model_fields.get(part)
        if field is None:
            break
        kind = _model(field.annotation)
    return tuple(place), field


def _model(annotation: object) -> type[BaseModel] | None:
    """The class of a table: itself, or inside a list of tables or an optional one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model, get_args(annotation))), None)


def _message(detail: ErrorDetails) -> str:
    return detail["msg"].removeprefix("Value error, ")


def _sentence(detail: ErrorDetails, place: Place, field: FieldInfo | None) -> str:
    if detail["type"] == "extra_forbidden":
        return f"unknown key{_right_key(place)}"
    if field is None:
        return _message(detail)
    words = _allowed(field.annotation, field.metadata)
    should = f"should be {' or '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)}"
    if detail["type"] == "missing":
        return f"missing; {should}"
    value = detail["input"]
    shown = json.dumps(value, ensure_ascii=False, default=str)
    if len(shown) > SHOWN:
        shown = f"{shown[: SHOWN - 3]}..."
    near = closest(value, re.findall(r"'(.*?)'", " ".join(words))) if isinstance(value, str) else ""
    return f"found {shown}; {should}{near}"


def _right_key(place: Place) -> str:
    """Which key may have been meant: a similar one of this table, the same one of another, else all of this table."""
    *above, name = place
    _, field = _field(above)
    kind = _model(field.annotation) if field else Profile
    known = list(kind.model_fields) if kind else []
    if near := closest(str(name), known):
        return near
    for table, other in Profile.model_fields.items():
        model = _model(other.annotation)
        if model and name in model.model_fields:
            return f" here - did you mean {table}.{'0.' if table == 'data' else ''}{name}?"
    return f"; allowed are {', '.join(known)}"


def _allowed(annotation: Any, metadata: Sequence[object]) -> list[str]:
    """What a key may be, as alternatives."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [data for extra in arguments[1:] for data in getattr(extra, "metadata", [extra])]
        return _allowed(arguments[0], inner)
    if origin is Literal:
        return [f"'{value}'" if isinstance(value, str) else json.dumps(value) for value in arguments]
    if origin in (Union, UnionType):
        return [word for argument in arguments if argument is not NoneType for word in _allowed(argument, metadata)]
    if origin is tuple:
        if _model(annotation):
            return [f"a list of tables with {', '.join(_model(annotation).model_fields)}"]  # type: ignore[union-attr]
        return [f"a list of {' or '.join(_plural(argument) for argument in _members(arguments[0]))}"]
    if origin is dict:
        return ["a table of texts"]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [f"a table with {', '.join(annotation.model_fields)}"]
    return [_plain(annotation, metadata)]


def _members(annotation: object) -> tuple[object, ...]:
    return get_args(annotation) or (annotation,)


def _plural(kind: object) -> str:
    if isinstance(kind, str):  # one of the texts that it may be
        return f"'{kind}'"
    return {str: "texts", int: "integers", float: "numbers"}.get(kind, "values")  # type: ignore[call-overload, no-any-return]


def _plain(kind: object, metadata: Sequence[object]) -> str:
    """A number with its range, or a text."""
    limits = {
        name: getattr(limit, name)
        for limit in metadata
        for name in ("gt", "ge", "lt", "le", "min_length", "max_length")
        if getattr(limit, name, None) is not None
    }
    if kind is bool:
        return "true or false"
    if kind is str:
        longest = f" of at most {limits['max_length']} characters" if "max_length" in limits else ""
        return f"a text{longest}{' that is not empty' if 'min_length' in limits else ''}"
    number = "an integer" if kind is int else "a number"
    if "ge" in limits and "le" in limits:
        return f"{number} from {limits['ge']} to {limits['le']}"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    range_ = " and ".join(f"{sign} {limits[name]}" for name, sign in signs.items() if name in limits)
    return f"{number} {range_}".strip()
