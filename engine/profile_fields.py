"""The values of a profile, read off its classes: what each is called and means, what it may be, in which range, and what it is by default."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.profile import Profile

OFF: Final = "off"  # how a part that is not there is written


@dataclass(frozen=True)
class Field:
    """One value of the profile. `choices` are all that it can be, empty where it is typed; `bounds` says its range in words."""

    key: str
    label: str
    about: str
    choices: tuple[str | bool | int, ...]
    bounds: str
    default: object
    is_text: bool
    is_list: bool


@dataclass(frozen=True)
class Section:
    """A table of the profile; `name` is its dotted key. Without a `title` it is a value outside of all tables."""

    name: str
    title: str
    about: str
    fields: tuple[Field, ...]


def sections(values: Mapping[str, object]) -> tuple[Section, ...]:
    """All sections of a profile with these raw values: every data source is one of its own."""
    data = values.get("data")
    return _with_sources(max(1, len(data)) if isinstance(data, list | tuple) else 1)


@cache
def _with_sources(count: int) -> tuple[Section, ...]:
    return tuple(_sections(count))


def _sections(count: int) -> Iterator[Section]:
    for name, info in Profile.model_fields.items():
        inner = _model(info.annotation)
        if inner is None:  # a value that stands in no table
            yield Section(name, "", "", tuple(_fields("", name, info)))
            continue
        if get_origin(info.annotation) is not tuple:
            yield _section(name, name.capitalize(), inner)
            continue
        for place in range(count):
            yield _section(f"{name}.{place}", name.capitalize() + (f" {place + 1}" if count > 1 else ""), inner)


def _section(name: str, title: str, model: type[BaseModel]) -> Section:
    about = (model.__doc__ or "").strip().splitlines()[0]
    fields = tuple(field for key, info in model.model_fields.items() for field in _fields(name, key, info))
    return Section(name, title, about, fields)


def _fields(prefix: str, name: str, info: FieldInfo) -> Iterator[Field]:
    key = f"{prefix}.{name}".lstrip(".")
    inner = _model(info.annotation)
    if inner is not None:  # a part that may be left out, such as early stopping: its own fields, off by default
        for part, detail in inner.model_fields.items():
            yield _field(f"{key}.{part}", f"{name}", detail, default=OFF, about=info.description or "")
        return
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    yield _field(key, name, info, default=default, about=info.description or "")


def _field(key: str, label: str, info: FieldInfo, *, default: object, about: str) -> Field:
    kinds = list(_kinds(info.annotation))
    literals = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    only = all(get_origin(kind) is Literal or kind in (bool, type(None)) for kind in kinds)
    choices: list[str | bool | int] = [*literals, *((False, True) if bool in kinds else ())] if only else []
    return Field(
        key=key,
        label=label.replace("_", " "),
        about=about,
        choices=tuple(dict.fromkeys(choices)) if len(choices) > 1 else (),
        bounds=_bounds(info),
        default=default,
        is_text=str in kinds and not any(kind in (int, float) for kind in kinds),
        is_list=any(get_origin(kind) is tuple for kind in kinds),
    )


def _model(annotation: Any) -> type[BaseModel] | None:
    """The part of a profile that an annotation holds: X, X | None, tuple[X, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((arg for arg in get_args(annotation) if isinstance(arg, type) and issubclass(arg, BaseModel)), None)


def _kinds(annotation: Any) -> Iterator[Any]:
    """What a value may be: the members of a union, without what annotates them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _kinds(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for arg in get_args(annotation):
            yield from _kinds(arg)
    else:
        yield annotation


def _limits(annotation: Any) -> Iterator[Any]:
    """Everything that annotates a type or a member of its union."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        for limit in metadata:
            yield from limit.metadata if isinstance(limit, FieldInfo) else (limit,)
        yield from _limits(inner)
    else:
        for arg in get_args(annotation):
            yield from _limits(arg)


def _bounds(info: FieldInfo) -> str:
    found: dict[str, object] = {}
    for limit in (*info.metadata, *_limits(info.annotation)):
        for name in ("ge", "gt", "le", "lt"):
            if (value := getattr(limit, name, None)) is not None:
                found[name] = value
    low, high = found.get("ge", found.get("gt")), found.get("le", found.get("lt"))
    if low is not None and high is not None:
        return f"{'above ' if 'gt' in found else ''}{_short(low)} to {'below ' if 'lt' in found else ''}{_short(high)}"
    if low is not None:
        return f"{'above' if 'gt' in found else 'from'} {_short(low)}"
    return ""


def _short(number: object) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}" if isinstance(number, float) else str(number)
