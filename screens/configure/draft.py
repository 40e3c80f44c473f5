"""The profile that is being written: its text, where it came from, and every text before it, so that any change can be taken back."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import tomlkit

from engine import profile_file
from engine.errors import Problem
from engine.profile import Profile, flat, flattened


@dataclass(frozen=True)
class Draft:
    """`text` is TOML; file names in it are relative to `path`'s folder. `origin` is the text it began as, `past` and `future` are for undo.

    `name` is for people; `own` says that `path` is a file of the user's that saving may replace.
    """

    text: str
    path: Path
    origin: str
    name: str
    own: bool
    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()

    @cached_property
    def values(self) -> dict[str, object]:
        """The raw values, nested, as they stand in the text. At every key they are wanted many times over."""
        return tomllib.loads(self.text)

    @property
    def changed(self) -> bool:
        """Something differs from the text it began as, or from what was saved last."""
        return self.text != self.origin

    def problems(self) -> dict[str, str]:
        """What is wrong, by dotted key."""
        return self._problems

    @cached_property
    def _problems(self) -> dict[str, str]:
        return profile_file.problems(self.values)

    def profile(self) -> Profile:
        """The profile, file names made absolute.

        Raises:
            Problem: something is wrong with it.
        """
        return profile_file.parse(self.text, self.path)

    def with_value(self, key: str, value: object) -> Draft:
        """One value changed; None takes its key out."""
        return self.with_text(_pruned(profile_file.updated(self.text, {key: value}), key))

    def with_file_name(self, key: str, name: str, folder: Path) -> Draft:
        """A typed file name: as it stands where it is found from the profile's file, else as it is found from `folder`."""
        elsewhere = folder / Path(name).expanduser()
        found_here = not self.own and not Path(name).is_absolute() and elsewhere.exists()
        found_there = not (self.path.parent / name).exists() and elsewhere.exists()
        return self.with_value(key, str(elsewhere) if found_here or found_there else name)

    def with_text(self, text: str) -> Draft:
        """Another text, the present one kept for undo."""
        if text == self.text:
            return self
        return replace(self, text=text, past=(*self.past, self.text), future=())

    def undone(self) -> Draft:
        """The last change taken back."""
        if not self.past:
            return self
        return replace(self, text=self.past[-1], past=self.past[:-1], future=(self.text, *self.future))

    def redone(self) -> Draft:
        """The last undo taken back."""
        if not self.future:
            return self
        return replace(self, text=self.future[0], past=(*self.past, self.text), future=self.future[1:])

    def saved_as(self, path: Path) -> Draft:
        """The draft as a file at `path` has it: file names that were relative to another folder become absolute."""
        text = self.text
        if path.parent.resolve() != self.path.parent.resolve():
            raw, anchored = self.values, flat(self.profile())
            for key, value in anchored.items():
                there = lookup(raw, key)
                if names_file(key) and there is not None and value != there:
                    text = profile_file.updated(text, {key: value})
        return replace(self.with_text(text), path=path, origin=text, name=path.name, own=True)

    def differences(self) -> dict[str, tuple[object, object]]:
        """Dotted keys whose value is another than the one it began with: before and now."""
        return self._differences

    @cached_property
    def _differences(self) -> dict[str, tuple[object, object]]:
        before, now = dict(flattened(tomllib.loads(self.origin))), dict(flattened(self.values))
        keys = [*before, *(key for key in now if key not in before)]
        return {key: (before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)}

    def diff(self) -> list[str]:
        """Unified lines from the text it began as to the present one, without a header."""
        lines = difflib.unified_diff(self.origin.splitlines(), self.text.splitlines(), lineterm="", n=2)
        return list(lines)[2:]


def from_file(path: Path, *, own: bool) -> Draft:
    """A draft of a profile file.

    Raises:
        Problem: the file cannot be read or is no TOML. A wrong value is no hindrance: the form shows it.
    """
    text = profile_file.read_text(path)
    return from_text(text, path, path.name if own else path.stem, own=own)


def from_text(text: str, path: Path, name: str, *, own: bool = False) -> Draft:
    """A draft of a text whose file names are relative to `path`'s folder.

    Raises:
        Problem: it is no TOML.
    """
    try:
        tomlkit.parse(text)
    except tomlkit.exceptions.ParseError as error:
        raise Problem(f"{path}:{error.line}: this is not TOML", f"{error}.", code="profile") from error
    _check_tables(tomlkit.parse(text).unwrap(), path)
    return Draft(text, path, text, name, own)


def _check_tables(values: Mapping[str, object], path: Path) -> None:
    """The form changes values inside of tables: a text in which a table is something else is none that it can show."""
    for name, value in values.items():
        if name == "data":
            right = isinstance(value, list) and all(isinstance(source, Mapping) for source in value)
        else:
            right = isinstance(value, Mapping) or name not in Profile.model_fields or name == "title"
        if not right:
            wanted = "[[data]]" if name == "data" else f"[{name}]"
            raise Problem(f"{path}: {name} is not a table", f"A profile has {wanted} there.", code="profile")


def lookup(values: object, key: str) -> object:
    """The value at a dotted key of nested values; None where there is none."""
    for part in key.split("."):
        if isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        elif isinstance(values, Mapping):
            values = values.get(part)
        else:
            return None
    return values


def names_file(key: str) -> bool:
    """Whether the value at a dotted key may be the name of a file."""
    return profile_file.MAY_NAME_A_FILE.fullmatch(key) is not None


def _pruned(text: str, key: str) -> str:
    """The text without an inline part that a removed key left empty, such as early_stopping = {}."""
    parent = key.rpartition(".")[0]
    if parent.count(".") and lookup(tomlkit.parse(text).unwrap(), parent) == {}:
        return profile_file.updated(text, {parent: None})
    return text
