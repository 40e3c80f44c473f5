"""A foreign configuration from its file: read safely, told which program it is of, carried over, written as TOML with the report on top."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import tomlkit
import yaml

from engine.errors import Problem, closest
from engine.importing import axolotl, llama_factory, trainer, trl
from engine.importing.carrying import HOWS, Carry, Imported, Line
from engine.profile import Profile
from engine.profile_file import updated

LARGEST: Final = 1 << 20  # bytes of a configuration; real ones have a few thousand
SMALL: Final = 1 << 16  # bytes of a file that is only looked at in passing: data are larger
MOST: Final = 10_000  # values in it: YAML's aliases can make billions of a few lines
READERS: Final[dict[str, tuple[frozenset[str], Callable[[Carry], None]]]] = {
    "axolotl": (axolotl.TELLING, axolotl.carry_over),
    "llama-factory": (llama_factory.TELLING, llama_factory.carry_over),
    "trl": (trl.TELLING, trl.carry_over),
}
"""Keys that only this program has, and what carries its configurations over."""
KINDS: Final = tuple(READERS)
SUFFIXES: Final = (".yaml", ".yml", ".json")


def imported(path: Path, kind: str | None = None) -> Imported:
    """The configuration in a file as a profile; `kind` is one of `KINDS`, told from the keys if it is not given.

    Raises:
        Problem: the file cannot be read or is of no program that is known, or it asks for what a profile cannot say at all (code "import").
    """
    given = _read(path)
    if kind is not None and kind not in READERS:
        raise Problem(
            f"Nothing is known of {kind}{closest(kind, KINDS)}", f"Known are {', '.join(KINDS)}.", code="import"
        )
    kind = kind or _told(given, path)
    carry = Carry(given, path.absolute().parent)
    READERS[kind][1](carry)
    order = list(HOWS)
    lines = tuple(sorted(carry.lines, key=lambda line: order.index(line.how)))
    return Imported(kind, path, _text(carry.values, kind, path, lines), lines)


def looks_foreign(path: Path) -> str:
    """The program that a file is a configuration of; empty where it is none's or cannot be read."""
    try:
        if path.suffix.lower() not in SUFFIXES or path.stat().st_size > SMALL:
            return ""
        return _told(_read(path), path)
    except (Problem, OSError):
        return ""


def _told(given: Mapping[str, object], path: Path) -> str:
    found = {kind: len(telling & given.keys()) for kind, (telling, _) in READERS.items()}
    best = max(found, key=lambda kind: found[kind])
    if not found[best] and trainer.TELLING & given.keys():
        return "trl"  # the arguments of a Trainer, which TRL's are, too
    if not found[best] or list(found.values()).count(found[best]) > 1:
        raise Problem(
            f"{path} does not say which program it is for",
            f"It has {'keys of several' if found[best] else 'no keys that only one has'}: {', '.join(KINDS)}.",
            f"Name it: --as {KINDS[0]}",
            code="import",
        )
    return best


def _read(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > LARGEST:
            raise Problem(
                f"{path} is too large for a configuration", f"It has more than {LARGEST:,} bytes.", code="import"
            )
        text = path.read_text(encoding="utf-8-sig")
        values = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except FileNotFoundError:
        raise Problem(f"There is no file {path}", code="import") from None
    except OSError as error:
        raise Problem(f"{path} cannot be read", f"{error.strerror}.", code="import") from error
    except UnicodeDecodeError as error:
        raise Problem(f"{path} cannot be read", f"It is no text in UTF-8: {error.reason}.", code="import") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        words = " ".join(str(error).split()) or "It is nested too deeply"
        raise Problem(f"{path} is neither YAML nor JSON", f"{words}.", code="import") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise Problem(f"{path} is no configuration", "It should be a table of keys and values.", code="import")
    if sum(1 for _, _ in zip(_leaves(values), range(MOST + 1), strict=False)) > MOST:
        raise Problem(f"{path} is too large for a configuration", f"It has more than {MOST:,} values.", code="import")
    plain = _plain(values)
    assert isinstance(plain, dict)
    return plain


def _plain(value: object) -> object:
    """A value as TOML has it too: there is no null, keys are texts, dates are written out."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner) for inner in value if inner is not None]
    return value if isinstance(value, str | bool | int | float) else str(value)


def _leaves(value: object) -> Iterator[object]:
    """All values inside of one, without end where it contains itself."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        yield inner
        if isinstance(inner, dict):
            waiting += inner.values()
        elif isinstance(inner, list):
            waiting += inner


def _text(values: Mapping[str, object], kind: str, path: Path, lines: tuple[Line, ...]) -> str:
    """The profile, with what did not come along as comments above it; tables in the order of the profile."""
    values = {"model.base": "", "data.0.source": "", **values}
    head = [f"From {path.name}, a configuration of {kind}."]
    for how in ("left", "changed", "assumed"):
        found = [line for line in lines if line.how == how]
        head += [f"{HOWS[how].capitalize()}:", *(f"  {_said(line)}" for line in found)] if found else []
    document = tomlkit.document()
    for line in head:
        # What is not printable steers terminals, and TOML has no place for it in comments.
        document.add(tomlkit.comment("".join(letter if letter.isprintable() else "·" for letter in line)))
    for name in Profile.model_fields:
        if name == "data":
            sources = tomlkit.aot()
            for place in range(1 + max(int(key.split(".")[1]) for key in values if key.startswith("data."))):
                sources.append(tomlkit.item(_table(values, f"data.{place}.")))
            document[name] = sources
        elif name in values:
            document[name] = values[name]
        elif table := _table(values, f"{name}."):
            document[name] = tomlkit.item(table)
    return updated(tomlkit.dumps(document), {})


def _table(values: Mapping[str, object], prefix: str) -> dict[str, object]:
    """The values below a dotted key; a part of a part (early_stopping.patience) as a table inside."""
    table: dict[str, object] = {}
    for key, value in values.items():
        if key.startswith(prefix):
            name, _, inner = key.removeprefix(prefix).partition(".")
            table[name] = {inner: value} if inner else value
    return table


def _said(line: Line) -> str:
    what = f"{line.key or line.to[0]} = {line.value}"
    return f"{what}: {line.why}"
