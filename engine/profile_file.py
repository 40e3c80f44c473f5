"""Profiles as TOML files: read with errors that name file, line, key, what was found and what is allowed.

Written with comments kept.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from pathlib import Path
from typing import Final

import tomlkit
from pydantic import ValidationError
from tomlkit.exceptions import TOMLKitError

from engine.errors import Problem, closest
from engine.places import shipped
from engine.profile import Profile
from engine.profile_errors import Place, described, line_of

PATH_LIKE: Final = re.compile(r"[.~]{0,2}/|\.\.?$")  # at the beginning; hub ids such as org/name do not begin so
FILE_LIKE: Final = re.compile(r"\.(jsonl|json|csv|tsv|parquet|txt|jinja)$|[*?]")  # what a hub id never looks like
MAY_NAME_A_FILE: Final = re.compile(
    r"model\.base|data\.\d+\.source|split\.test|template\.name|evaluation\.suites(\.\d+)?"
)
NAMES: Final = re.compile(r"run:|split:")


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
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise Problem(
            f"There is no file {path}", do="Shipped profiles are in profiles/domains.", code="profile"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path} cannot be read", f"{error}.", code="profile") from error


def parse(text: str, path: Path, settings: Sequence[str] = ()) -> Profile:
    """As `read`, from text that belongs to `path`."""
    values = _anchor(_document(text, path).unwrap(), "", path.absolute().parent)
    assert isinstance(values, dict)  # a document is a table
    for setting in settings:
        _set(values, setting)
    return validate(values, text, path, settings)


def validate(
    values: Mapping[str, object], text: str = "", path: Path | None = None, settings: Sequence[str] = ()
) -> Profile:
    """The profile with these nested values; errors point into `text` or at the setting that the value came from.

    Raises:
        Problem: unknown key, wrong type, value out of range; `what` is the first error, `why` the others, a line each.
    """
    try:
        return _checked(values)
    except ValidationError as error:
        given = [tuple(_split(setting.partition("=")[0].strip())) for setting in settings]
        first, *others = [
            f"--set {_dotted(place)}: {reason}"
            if place and any(place[: len(key)] == key[: len(place)] for key in given)
            else _located(place, reason, text, path)
            for place, reason in described(error).items()
        ]
        raise Problem(first, "\n".join(others), code="profile") from None


def problems(values: Mapping[str, object]) -> dict[str, str]:
    """What is wrong, by dotted key, for a form that validates while typing; empty when all is well."""
    try:
        _checked(values)
    except ValidationError as error:
        return {_dotted(place): reason for place, reason in described(error).items()}
    return {}


def value_of(text: str) -> object:
    """What a person typed as a value: TOML (16, true, ["a"], "text"), or the bare text where it is not."""
    try:
        document = tomlkit.parse(f"value = {text}").unwrap()
    except TOMLKitError:
        return text
    return document["value"] if len(document) == 1 else text


def dump(profile: Profile) -> str:
    """The whole profile as TOML, every value written out; `parse` gives the same profile back."""
    return tomlkit.dumps(profile.model_dump(mode="json", exclude_none=True))


def updated(text: str, changes: Mapping[str, object]) -> str:
    """A profile's text with dotted keys changed; comments and order are kept. A value of None removes the key.

    Raises:
        Problem: the text is not TOML, or has no place for a key.
    """
    document = _document(text, None)
    for key, value in changes.items():
        *above, last = _split(key)
        place = _walk(document, above, key)
        if value is not None:
            _put(place, last, list(value) if isinstance(value, tuple) else value, key)
        elif isinstance(place, MutableMapping):
            place.pop(last, None)
    return tomlkit.dumps(document)


def _document(text: str, path: Path | None) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        line = getattr(error, "line", None)
        where = f"{path}{f':{line}' if line else ''}: " if path else ""
        raise Problem(f"{where}this is not TOML", f"{error}.", code="profile") from error


def _checked(values: Mapping[str, object]) -> Profile:
    # Strict ("16" is no integer, true no number), by way of JSON, in which lists and tables are what pydantic wants.
    return Profile.model_validate_json(json.dumps(values, default=str), strict=True)


def _located(place: Place, reason: str, text: str, path: Path | None) -> str:
    line = line_of(text, place) if text else None
    where = f"{path}{f':{line}' if line else ''}: " if path else ""
    return f"{where}{_dotted(place)}: {reason}" if place else f"{where}{reason}"


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))


def _split(key: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in key.split(".")]


def _set(values: dict[str, object], setting: str) -> None:
    """Apply one `a.b=value`."""
    key, separator, raw = (part.strip() for part in setting.partition("="))
    if not separator or not key:
        raise Problem(
            f"--set {setting} is not of the form key=value", do="Such as: --set training.epochs=2", code="profile"
        )
    *above, last = _split(key)
    _put(_walk(values, above, key), last, _anchor(value_of(raw), key, Path.cwd()), key)


def _walk(place: object, above: Sequence[str | int], key: str) -> object:
    """The table or list that a key stands in; tables that are not there yet are made."""
    for part in above:
        if isinstance(place, MutableSequence) and isinstance(part, int) and part < len(place):
            place = place[part]
        elif isinstance(place, MutableMapping) and isinstance(part, str):
            if part not in place:
                place[part] = {}
            place = place[part]
        else:
            raise _nowhere(key, part)
    return place


def _put(place: object, last: str | int, value: object, key: str) -> None:
    if isinstance(place, MutableSequence) and isinstance(last, int) and last < len(place):
        place[last] = value
    elif isinstance(place, MutableMapping):
        place[str(last)] = value
    else:
        raise _nowhere(key, last)


def _nowhere(key: str, part: str | int) -> Problem:
    return Problem(f"There is no place for {key}", f"The profile has no {part} there.", code="profile")


def _anchor(value: object, key: str, folder: Path) -> object:
    """The value with file names in it made absolute from `folder`; `key` is its dotted place in the profile."""
    if isinstance(value, dict):
        return {name: _anchor(inner, f"{key}.{name}" if key else name, folder) for name, inner in value.items()}
    if isinstance(value, list):
        return [_anchor(inner, f"{key}.{place}", folder) for place, inner in enumerate(value)]
    if isinstance(value, str) and MAY_NAME_A_FILE.fullmatch(key) and _names_file(value, key, folder):
        # Only the folder is resolved: the name itself may be a link whose target has no telling name.
        return os.path.normpath(folder.resolve() / Path(value).expanduser())
    return value


def _names_file(value: str, key: str, folder: Path) -> bool:
    """Whether a value that may be a hub id or the name of something known is a file's or folder's."""
    if not value or NAMES.match(value) or Path(value).is_absolute():
        return False
    if PATH_LIKE.match(value) or FILE_LIKE.search(value):
        return True
    # A folder beside the profile may be called "chat" or "test": only what else would be asked of the hub is looked for.
    return key.startswith(("model.", "data.", "split.")) and (folder / value).exists()
