"""The user's settings: one TOML file in WORKBENCH_HOME, read at start, written whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Final

import tomlkit
from tomlkit.exceptions import ParseError

from engine import places
from engine.atomic import write_text
from engine.errors import Problem, closest
from screens.session import View

THEME: Final = "workbench-dark"


@dataclass(frozen=True)
class Settings:
    """What a user may set. `keymap` takes ids of commands to keys; `seen_places` says that the first start has shown where things go;
    `runs` is how the table of runs was last looked at.
    """

    runs_folder: Path = field(default_factory=lambda: places.home() / "runs")
    theme: str = THEME
    keymap: Mapping[str, str] = field(default_factory=dict)
    seen_places: bool = False
    runs: View = field(default_factory=View)


def load(path: Path | None = None) -> Settings:
    """The settings in `path` (by default the user's); without a file, the defaults.

    Raises:
        Problem: the file cannot be read, is not TOML, or has an unknown key or a wrong type; the message names the line.
    """
    path = path or places.settings_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path} cannot be read", f"{error}.", "Mend it, or delete it to have the defaults.") from error
    try:
        values = tomlkit.parse(text).unwrap()
    except ParseError as error:
        raise Problem(f"{path}:{error.line}: this is not TOML", f"{error}.", "Mend the line or delete it.") from error
    known = {setting.name for setting in fields(Settings)}
    for key, value in values.items():
        if key not in known:
            raise _wrong(path, text, key, f"unknown setting {key}{closest(key, known)}", known)
        if reason := _mistake(key, value):
            raise _wrong(path, text, key, f"{key}: {reason}", known)
    if "runs_folder" in values:
        values["runs_folder"] = (path.absolute().parent / Path(values["runs_folder"]).expanduser()).resolve()
    if "runs" in values:
        values["runs"] = View(**{**values["runs"], "columns": tuple(values["runs"].get("columns", ()))})
    return Settings(**values)


def save(settings: Settings, path: Path | None = None) -> None:
    """Write the settings that differ from the defaults; comments and order of an existing file are kept.

    Raises:
        Problem: the file cannot be written; the old one is untouched.
    """
    path = path or places.settings_path()
    places.private_folder(path.parent)
    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ParseError):
        document = tomlkit.document()
    defaults = Settings()
    for setting in fields(Settings):
        value = getattr(settings, setting.name)
        if value == getattr(defaults, setting.name):
            document.pop(setting.name, None)
        else:
            document[setting.name] = _plain(value)
    write_text(path, tomlkit.dumps(document))


def _plain(value: object) -> object:
    """As TOML has it."""
    if isinstance(value, View):
        usual = asdict(View())
        return {key: each for key, each in asdict(value).items() if each != usual[key]}
    if isinstance(value, Mapping):
        return dict(value)
    return str(value) if isinstance(value, Path) else value


def _mistake(key: str, value: object) -> str:
    """What is wrong with a value's type; nothing when it is right."""
    if key == "seen_places":
        return "" if isinstance(value, bool) else f"found {value!r}; should be true or false"
    if key == "keymap":
        good = isinstance(value, dict) and all(isinstance(keys, str) for keys in value.values())
        return "" if good else f'found {value!r}; should be a table such as {{ "runs.pause" = "P" }}'
    if key == "runs":
        return (
            ""
            if _is_view(value)
            else f'found {value!r}; should be a table such as {{ sort = "best", group = "sweep" }}'
        )
    return "" if isinstance(value, str) and value else f"found {value!r}; should be text"


def _is_view(value: object) -> bool:
    """Whether the fields of a `View` are there, with values of their types."""
    if not isinstance(value, dict) or not value.keys() <= {each.name for each in fields(View)}:
        return False
    columns = value.get("columns", [])
    return (
        isinstance(columns, list)
        and all(isinstance(name, str) for name in columns)
        and all(isinstance(value.get(key, ""), str) for key in ("sort", "group"))
        and isinstance(value.get("descending", False), bool)
    )


def _wrong(path: Path, text: str, key: str, what: str, known: set[str]) -> Problem:
    line = next(
        (
            number
            for number, line in enumerate(text.splitlines(), 1)
            if re.match(rf'\s*\[?\s*"?{re.escape(key)}"?\s*[\]=.]', line)
        ),
        1,
    )
    return Problem(f"{path}:{line}: {what}", f"Settings are {', '.join(sorted(known))}.", "Mend the line or delete it.")
