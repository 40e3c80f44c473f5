"""A foreign configuration is taken apart key by key, and what became of each is written down; what nobody took was not carried over.

What a key without a value says (`wandb_project:`) is nothing: it is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

How = Literal["left", "changed", "assumed", "same", "needless"]
HOWS: Final[dict[How, str]] = {
    "left": "not carried over",
    "changed": "carried with another meaning",
    "assumed": "not in the file: what the other program does without it",
    "same": "carried",
    "needless": "without a key here",
}
"""What may become of a key, most important first."""
SECRET: Final = re.compile(r"(hub|auth|access|hf)_token|^token$|api_key|secret|password|webhook", re.IGNORECASE)
SHOWN: Final = 60  # characters of a value


@dataclass(frozen=True)
class Line:
    """What became of one key; `to` are dotted keys of the profile. What the file does not say has no `key`, and the profile's value."""

    key: str
    value: str
    how: How
    to: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Imported:
    """A profile as TOML `text`, which may lack a base or data where the file named none, and what became of the keys of `path`."""

    kind: str
    path: Path
    text: str
    lines: tuple[Line, ...]

    def of(self, how: How) -> tuple[Line, ...]:
        """The lines of one kind."""
        return tuple(line for line in self.lines if line.how == how)


@dataclass
class Carry:
    """A configuration (or a table inside of one, `prefix` being its place) on its way: `values` gathers the profile's, `lines` the report.

    The first that is said of a key counts.
    """

    given: Mapping[str, object]
    folder: Path
    values: dict[str, object] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    prefix: str = ""
    _told: set[str] = field(default_factory=set)

    def inside(self, given: Mapping[str, object], place: str) -> Carry:
        """The same way for a table inside of this one."""
        return Carry(given, self.folder, self.values, self.lines, f"{self.prefix}{place}.")

    def has(self, *keys: str) -> bool:
        """Whether one of the keys has a value."""
        return any(not _says_nothing(self.given.get(key)) for key in keys)

    def get(self, key: str, default: object = None) -> object:
        """A key's value; a number that is written as a text (`2e-4` is one in YAML) is a number."""
        value = self.given.get(key)
        return default if _says_nothing(value) else number(value)

    def on(self, key: str, default: bool = False) -> bool:
        """Whether a switch is on."""
        value = self.get(key, default)
        return value.lower() in ("true", "yes", "on") if isinstance(value, str) else bool(value)

    def same(self, key: str, to: str, value: object = None) -> None:
        """Carried as it is meant, as `value` where that is written otherwise; a key that is not there is not carried."""
        if self.has(key):
            self._carried(key, "same", {to: self.get(key) if value is None else value}, "")

    def changed(self, key: str, to: Mapping[str, object], why: str) -> None:
        """Carried, but it does not mean quite the same."""
        if self.has(key):
            self._carried(key, "changed", to, why)

    def needless(self, key: str, why: str) -> None:
        """There is no such key in a profile, and nothing is lost."""
        self._tell(key, "needless", (), why)

    def left(self, key: str, why: str) -> None:
        """Not carried over."""
        self._tell(key, "left", (), why)

    def opened(self, key: str) -> None:
        """A table whose own keys are told of one by one."""
        self._told.add(key)

    def assumed(self, to: str, value: object, why: str) -> None:
        """What the other program does where the file says nothing, and Workbench would not."""
        if to not in self.values:
            self.values[to] = value
            self.lines.append(Line("", shown(to, value), "assumed", (to,), why))

    def rest(self, needless: Mapping[str, str], unsupported: Mapping[str, str]) -> None:
        """All keys that nobody took. A switch that is off is no loss."""
        for key, value in self.given.items():
            if key in self._told or _says_nothing(value):
                continue
            if key in needless:
                self.needless(key, needless[key])
            elif key in unsupported:
                off = value is False or value == 0
                (self.needless if off else self.left)(key, "it is off" if off else unsupported[key])
            else:
                self.left(key, "it is not known here")

    def _carried(self, key: str, how: How, to: Mapping[str, object], why: str) -> None:
        if key not in self._told:
            self.values.update(to)
            self._tell(key, how, tuple(to), why)

    def _tell(self, key: str, how: How, to: tuple[str, ...], why: str) -> None:
        if self.has(key) and key not in self._told:
            self._told.add(key)
            self.lines.append(Line(self.prefix + key, shown(key, self.given[key]), how, to, why))


def number(value: object) -> object:
    """A text that is a number as the number, anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return value


def names(value: object) -> list[str]:
    """A list of names, or one text with commas."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [str(each) for each in value]
    return [word.strip() for word in str(value).split(",") if word.strip()]


def shown(key: str, value: object) -> str:
    """A value in a few letters; what looks like a secret is not shown."""
    if SECRET.search(key):
        return "(not shown)"
    if isinstance(value, Mapping):
        text = f"{{{', '.join(f'{inner}: {shown(str(inner), each)}' for inner, each in list(value.items())[:8])}}}"
    elif isinstance(value, list):
        text = f"[{', '.join(shown(key, each) for each in value[:8])}]"
    else:
        text = str(value).lower() if isinstance(value, bool) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _says_nothing(value: object) -> bool:
    return value is None or value in ("", [], {})
