"""`workbench profile`: other trainers' configurations as profiles, and what every value of one means."""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from engine import advice
from engine.advice import NUMBERED
from engine.atomic import write_text
from engine.errors import Problem, closest
from engine.explaining import explained
from engine.importing import KINDS, Imported, imported
from engine.importing.carrying import HOWS
from engine.profile import flat
from engine.profile_fields import OFF, Field, sections
from engine.profile_file import parse, updated
from workbench.cli.output import NOTHING, print_json, printable, shown, words

MARKS: Final = {"left": "✗", "changed": "~", "assumed": "○", "same": "✓", "needless": "–"}

WIDEST: Final = 100  # columns of a text that is to be read
LONGEST: Final = 29  # columns that the keys of a report share; what is longer pushes its value aside


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `profile` to the command line."""
    parser = commands.add_parser(
        "profile",
        help="what a profile's values mean; profiles from axolotl, LLaMA-Factory, TRL",
        description="Profiles, which are TOML files: what their values mean, and what they can be made from.",
    )
    verbs = parser.add_subparsers(title="commands", dest="verb", metavar="COMMAND", required=True)
    _add_import(verbs)
    _add_explain(verbs)


def _add_explain(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "explain",
        help="what a value means: range, default, what is usual and why",
        description="What every value of a profile means, which it may be, what is usual, what was found out about it and by whom.",
    )
    parser.add_argument(
        "key",
        nargs="?",
        default="",
        metavar="KEY",
        help="such as method.rank, rank, or a table: method; all without it",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run_explain)


def run_explain(options: argparse.Namespace) -> int:
    """Print what is to be known about one value or several, with the profile's defaults as the other values."""
    asked: str = NUMBERED.sub("data", options.key)
    fields = {NUMBERED.sub("data", field.key): field for section in sections({}) for field in section.fields}
    found = {
        key: field
        for key, field in fields.items()
        if not asked or key == asked or key.startswith(f"{asked}.") or key.endswith(f".{asked}")
    }
    if not found:
        tables = {key.partition(".")[0] for key in fields}
        raise Problem(
            f"A profile has no {options.key}{closest(asked, [*fields, *tables])}",
            "All: workbench profile explain",
            code="profile",
        )
    told = {
        key: explained(field, lambda other: fields[other].default if other in fields else None, _written)
        for key, field in found.items()
    }
    if options.json:
        print_json([_as_json(field, told[key]) for key, field in found.items()])
    elif len(told) == 1:
        ((key, lines),) = told.items()
        print(key)
        width = max(40, min(WIDEST, shutil.get_terminal_size().columns))
        for title, text in lines:
            print(textwrap.fill(text, width, initial_indent=f"  {title:<9}", subsequent_indent=" " * 11))
    else:
        width = max(map(len, told))
        for key, field in found.items():
            may_be = field.bounds or "|".join(map(_written, field.choices))
            default = _written(field.default) or NOTHING
            text = f"{default} ({may_be}). {field.about}" if may_be else f"{default}. {field.about}"
            print(shown(_wrapped(f"{key:<{width}}  ", text, width + 2)))
    return 0


def _as_json(field: Field, told: Sequence[tuple[str, str]]) -> dict[str, object]:
    known = advice.about(field.key)
    return {
        "key": NUMBERED.sub("data", field.key),
        "meaning": field.about,
        "choices": field.choices,
        "range": field.bounds,
        "default": None if field.default == OFF else field.default,
        "usual": next((text for title, text in told if title == "usual"), None),
        "why": known.why if known else "",
        "quoted": known.thumb if known else "",
        "literature": [asdict(each) for each in known.literature] if known else [],
    }


def _written(value: object) -> str:
    """A value as in a profile."""
    if value in (None, (), {}):
        return ""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _add_import(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "import",
        help="a profile from another trainer's configuration",
        description="Make a profile of a configuration of axolotl (YAML), LLaMA-Factory (YAML, JSON), TRL (YAML of `trl sft --config`) or "
        "of a Trainer's arguments (JSON), and say what became of each of its keys. Nothing in the file is run.",
        epilog="Exit codes: 0 all was carried over; 1 something was not; 2 no profile was written.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the configuration")
    parser.add_argument(
        "--to", type=Path, metavar="FILE", help="the profile to write (default: its name with .toml, in this folder)"
    )
    parser.add_argument("--as", dest="kind", metavar="KIND", help=f"the program it is of: {', '.join(KINDS)}")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a value of the profile that the file does not have, such as model.base=FOLDER; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run_import)


def run_import(options: argparse.Namespace) -> int:
    """Write the profile and print the report; 1 when a key was not carried over."""
    source: Path = options.file.expanduser()
    to: Path = options.to.expanduser() if options.to else Path.cwd() / f"{source.stem}.toml"
    found = imported(source, options.kind)
    text = _checked(found, to, options.set)
    if to.exists():
        raise Problem(f"{to} is there already", "Nothing was written.", "Name another: --to FILE", code="import")
    write_text(to, text)
    if options.json:
        print_json({"from": found.kind, "profile": to, "keys": [asdict(line) for line in found.lines]})
    else:
        _print(found)
        words(f"{to} is written. Look at it: workbench, then 3 and p; or: workbench fit {to}")
    return 1 if found.of("left") else 0


def _checked(found: Imported, to: Path, settings: Sequence[str]) -> str:
    """The profile's text with the settings in it.

    Raises:
        Problem: it is no whole profile; `do` names what is to be given.
    """
    try:
        values = flat(parse(found.text, to, settings))
    except Problem as problem:
        missing = [key for key in ("model.base", "data.0.source") if f'{key}: found ""' in str(problem)]
        if not missing:
            raise _in_their_words(problem, found, to) from None
        raise Problem(
            f"{found.path} does not say {' and '.join(missing)}",
            "A profile needs it.",
            f"Give it: {' '.join(f'--set {key}=...' for key in missing)}",
            code="import",
        ) from None
    given = [setting.partition("=")[0].strip() for setting in settings]
    return updated(found.text, {key: values[key] for key in given if key in values})


def _in_their_words(problem: Problem, found: Imported, to: Path) -> Problem:
    """What is wrong with a profile that was not written, said of the file that it was to be made of."""
    theirs = {key: line.key for line in found.lines for key in line.to if line.key}

    def named(match: re.Match[str]) -> str:
        key = match["key"]
        return f"{found.path}: {f'{theirs[key]}, here {key}' if key in theirs else key}:"

    said = re.sub(rf"^{re.escape(str(to))}(:\d+)?: (?P<key>[\w.]+):", named, str(problem), flags=re.MULTILINE)
    return (
        Problem(said, do="Correct it there, or give another: --set KEY=VALUE", code="import")
        if said != str(problem)
        else problem
    )


def _print(found: Imported) -> None:
    """What became of the keys, the most important first, in lines that a terminal of 80 columns has room for."""
    for how, title in HOWS.items():
        lines = found.of(how)
        if not lines:
            continue
        print(shown(f"{MARKS[how]} {title} ({len(lines)})"))
        # What has no key is named by what it became.
        named = [(line.key or ", ".join(line.to), line) for line in lines]
        width = min(LONGEST, max(len(name) for name, _ in named))
        for name, line in named:
            to = f" → {', '.join(line.to)}" if line.key and line.to else ""
            why = f": {line.why}" if line.why else ""
            print(shown(_wrapped(f"  {name:<{width}}  ", printable(f"{line.value}{to}{why}"), width + 4)))
        print()
    left = len(found.of("left"))
    lost = f"{left} key{'' if left == 1 else 's'} could not be carried over" if left else "all was carried over"
    words(f"From {found.kind}: {lost}.")


def _wrapped(first: str, text: str, indent: int) -> str:
    """A text behind `first`, its further lines under its own beginning, no wider than the terminal."""
    width = max(60, min(WIDEST, shutil.get_terminal_size().columns))
    return textwrap.fill(
        text, width, initial_indent=printable(first), subsequent_indent=" " * indent, break_on_hyphens=False
    )
