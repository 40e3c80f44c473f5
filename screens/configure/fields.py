"""The profile as a form: sections and fields, taken from the classes of `engine.profile` - names, meanings, choices and ranges alike."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import tomlkit
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from engine.profile import Profile
from engine.profile_file import value_of
from screens.widgets import figures

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
    return tuple(_sections(values))


def _sections(values: Mapping[str, object]) -> Iterator[Section]:
    for name, info in Profile.model_fields.items():
        inner = _model(info.annotation)
        if inner is None:  # a value that stands in no table
            yield Section(name, "", "", tuple(_fields("", name, info)))
            continue
        if get_origin(info.annotation) is not tuple:
            yield _section(name, name.capitalize(), inner)
            continue
        sources = values.get(name)
        count = max(1, len(sources)) if isinstance(sources, Sequence) else 1
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


def shown(value: object) -> str:
    """A value as it is written in the form."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else OFF
    if isinstance(value, float):
        return figures.scientific(value) if 0 < abs(value) < 0.001 else f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {inner}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)


def typed(field: Field, text: str) -> object:
    """What a typed text means for a field; None takes the key out, so that the default stands.

    Text that is no TOML value is taken as it is: the profile's own check says what is wrong with it.
    """
    text = text.strip()
    if not text or (field.default == OFF and text == OFF):
        return None
    if field.is_text and not field.is_list:
        return text
    if field.default == {} or isinstance(field.default, Mapping):
        table = value_of(text if text.startswith("{") else f"{{ {text} }}")
        return table if isinstance(table, Mapping) else text
    if field.is_list and not text.startswith("["):
        words = [word.strip() for word in text.split(",") if word.strip()]
        if len(words) == 1 and words[0] in ("auto", "all-linear"):
            return words[0]
        return [int(word) if word.isdigit() else word for word in words]
    return value_of(text)


def editable(field: Field, value: object) -> str:
    """A value as it is put before the cursor to be changed; the default where nothing is set."""
    if value is None:
        value = None if field.default == OFF else field.default
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {tomlkit.item(inner).as_string()}" for key, inner in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    return shown(value)
