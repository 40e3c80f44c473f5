"""Profiles as TOML files: read with errors that name file, line, key, what was found and what is allowed.

Written with comments kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, get_args, get_origin

import tomlkit
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from tomlkit.exceptions import ParseError, TOMLKitError

from engine.errors import Problem, closest
from engine.places import shipped
from engine.profile import Profile

Path_ = tuple[str | int, ...]
FILE_LIKE: Final = re.compile(r"^[.~/]|\.(jsonl|json|csv|tsv|parquet|txt|jinja)$|[*?]")


def read(path: Path, settings: Sequence[str] = ()) -> Profile:
    """The profile in a TOML file with `key=value` settings on top.

    Paths in the file are relative to the file, paths in settings to the working directory.

    Raises:
        Problem: no such file, broken TOML, unknown key, wrong type, value out of range.
    """
    return parse(read_text(path), path, settings)


def find(name: str) -> Path:
    """The file of a profile given by path, or by the name of a domain profile that ships with the program.

    Raises:
        Problem: there is neither.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    domains = shipped() / "domains"
    if (domains / f"{name}.toml").is_file():
        return domains / f"{name}.toml"
    known = sorted(file.stem for file in domains.glob("*.toml"))
    raise Problem(
        f"There is no profile {name}{closest(name, known)}",
        "It is neither a file nor one that ships.",
        f"Shipped: {', '.join(known)}",
        code="profile",
    )


def read_text(path: Path) -> str:
    """A profile file's text.

    Raises:
        Problem: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Problem(
            f"There is no file {path}", do="Shipped profiles are in profiles/domains.", code="profile"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path} cannot be read", f"{error}.", code="profile") from error


def parse(text: str, path: Path, settings: Sequence[str] = ()) -> Profile:
    """As `read`, from text that belongs to `path`."""
    try:
        document = tomlkit.parse(text)
    except ParseError as error:
        raise Problem(f"{path}:{error.line}: this is not TOML", f"{error}.", code="profile") from error
    values: dict[str, object] = document.unwrap()
    anchored = _anchor(values, path.absolute().parent)
    for setting in settings:
        _set(anchored, setting)
    return validate(anchored, text, path)


def validate(values: Mapping[str, object], text: str = "", path: Path | None = None) -> Profile:
    """The profile with these nested values; errors point into `text`, where a key stands there."""
    try:
        return Profile.model_validate(values)
    except ValidationError as error:
        lines = [_explain(detail, text, path) for detail in error.errors(include_url=False)]
        raise Problem("\n".join(lines), code="profile") from None


def problems(values: Mapping[str, object]) -> dict[str, str]:
    """What is wrong, by dotted key, for a form that validates while typing; empty when all is well."""
    try:
        Profile.model_validate(values)
    except ValidationError as error:
        return {
            ".".join(map(str, _place(detail["loc"]))): _reason(detail) for detail in error.errors(include_url=False)
        }
    return {}


def dump(profile: Profile) -> str:
    """The whole profile as TOML, every value written out; `parse` gives the same profile back."""
    return tomlkit.dumps(_without_none(profile.model_dump(mode="json")))


def updated(text: str, changes: Mapping[str, object]) -> str:
    """A profile's text with dotted keys changed; comments and order are kept. A value of None removes the key."""
    document = tomlkit.parse(text)
    for key, value in changes.items():
        *parents, last = _split_key(key)
        place: object = document
        for parent in parents:
            if isinstance(place, list):
                place = place[int(parent)]
            else:
                assert isinstance(place, dict)
                place = place.setdefault(parent, tomlkit.table())
        assert isinstance(place, dict)
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return tomlkit.dumps(document)


def _without_none(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return {
        key: _without_none(inner) if isinstance(inner, dict) else inner
        for key, inner in value.items()
        if inner is not None
    }


def _split_key(key: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in key.split(".")]


def _set(values: dict[str, object], setting: str) -> None:
    """Apply one `a.b=value`; the value is TOML, or a bare string where it is not."""
    key, separator, raw = setting.partition("=")
    key = key.strip()
    if not separator or not key:
        raise Problem(
            f"--set {setting} is not of the form key=value", do="Example: --set training.epochs=2", code="profile"
        )
    try:
        value: object = tomlkit.parse(f"value = {raw}").unwrap()["value"]
    except TOMLKitError:
        value = raw
    place: object = values
    *parents, last = _split_key(key)
    for parent in parents:
        if isinstance(place, list) and isinstance(parent, int) and parent < len(place):
            place = place[parent]
        elif isinstance(place, dict) and isinstance(parent, str):
            place = place.setdefault(parent, {})
        else:
            raise Problem(f"--set {key}: there is no {parent} to set it in", code="profile")
    if isinstance(place, list) and isinstance(last, int) and last < len(place):
        place[last] = value
    elif isinstance(place, dict):
        place[str(last)] = _anchored_value(f"{key}", value, Path.cwd())
    else:
        raise Problem(f"--set {key}: there is no such place in the profile", code="profile")


def _anchor(values: dict[str, object], folder: Path) -> dict[str, object]:
    """The values with file names made absolute from `folder`."""

    def walk(prefix: str, value: object) -> object:
        if isinstance(value, dict):
            return {key: walk(f"{prefix}.{key}" if prefix else key, inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(f"{prefix}.{place}", inner) for place, inner in enumerate(value)]
        return _anchored_value(prefix, value, folder)

    anchored = walk("", values)
    assert isinstance(anchored, dict)
    return anchored


def _anchored_value(key: str, value: object, folder: Path) -> object:
    """A file name made absolute; hub ids and names stay. Only keys that may name files are looked at."""
    names_file = re.fullmatch(
        r"model\.base|data\.\d+\.source|split\.test|template\.name|evaluation\.suites(\.\d+)?", key
    )
    if isinstance(value, list) and names_file:
        return [_anchored_value(key, inner, folder) for inner in value]
    if not names_file or not isinstance(value, str) or value.startswith(("run:", "split:")):
        return value
    if FILE_LIKE.search(value) or (folder / value).exists():
        return str((folder / Path(value).expanduser()).resolve())
    return value


def _place(location: tuple[str | int, ...]) -> Path_:
    """A pydantic location without the names of union members, which are no keys."""
    kept: list[str | int] = []
    kind: object = Profile
    for part in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kept.append(part)
            if not isinstance(part, str) or part not in kind.model_fields:
                break
            kind = _inner(kind.model_fields[part].annotation)
        elif isinstance(part, int):
            kept.append(part)
            kind = _inner(next(iter(get_args(kind)), None)) if get_origin(kind) is tuple else None
        else:
            break
    return tuple(kept)


def _inner(annotation: object) -> object:
    """The model class inside `X | None`, else the annotation."""
    models = [arg for arg in get_args(annotation) if isinstance(arg, type) and issubclass(arg, BaseModel)]
    return models[0] if len(models) == 1 and get_origin(annotation) is not tuple else annotation


def _explain(detail: ErrorDetails, text: str, path: Path | None) -> str:
    place = _place(detail["loc"])
    key = ".".join(map(str, place))
    number = _line(text, place) if text else None
    where = f"{path}:{number}: " if path and number else f"{path}: " if path else ""
    return f"{where}{key + ': ' if key else ''}{_reason(detail)}"


def _reason(detail: ErrorDetails) -> str:
    found = detail["input"]
    if detail["type"] == "extra_forbidden":
        known = _known_keys(_place(detail["loc"])[:-1])
        name = str(detail["loc"][-1])
        near = closest(name, known)
        return f"unknown key{near}" if near else f"unknown key; allowed are {', '.join(known)}"
    if detail["type"] == "missing":
        return "missing; it has no default"
    message = detail["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "should be", 1)
    if isinstance(found, dict | BaseModel):
        return message
    return f"found {found!r}; {message}"


def _known_keys(place: Path_) -> list[str]:
    kind: object = Profile
    for part in place:
        if isinstance(part, int):
            kind = _inner(next(iter(get_args(kind)), None))
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = _inner(kind.model_fields[part].annotation)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _line(text: str, place: Path_) -> int | None:
    """The line of a key in TOML text, else of the table that it would stand in."""
    table: list[str | int] = []
    counts: dict[str, int] = {}
    best: tuple[int, int] | None = None  # how much of the key matches, line
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if match := re.match(r"\[\[\s*([^\]]+?)\s*\]\]", stripped):
            counts[match[1]] = counts.get(match[1], -1) + 1
            table = [*match[1].split("."), counts[match[1]]]
            here: list[str | int] = table
        elif match := re.match(r"\[\s*([^\]]+?)\s*\]", stripped):
            table = list(match[1].split("."))
            here = table
        elif match := re.match(r"([\w.\-\"]+)\s*=", stripped):
            here = [*table, *match[1].replace('"', "").split(".")]
        else:
            continue
        if tuple(here) == place[: len(here)] and (best is None or len(here) > best[0]):
            best = (len(here), number)
    return best[1] if best else None
