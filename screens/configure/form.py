"""The lines of the form: foldable sections with a summary, fields with their value and what is to be said about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine import advice
from engine.profile_fields import OFF, Field, Section, sections
from screens.configure.applies import PROMPTS, why_not
from screens.configure.draft import Draft, lookup
from screens.configure.fields import shown
from screens.widgets.cells import Cell, Column
from screens.widgets.line import shortened

COLUMNS: Final = (Column("", 25), Column("", 23, pushes=True), Column("", 10, stretch=True))
NOT_SET: Final = "–"
QUIET: Final = "$foreground-muted"


@dataclass(frozen=True)
class Typing:
    """A value that is being typed: what stands there so far, and what is wrong with it."""

    key: str
    text: str
    reason: str


@dataclass(frozen=True)
class Row:
    """A section's head (`field` is None) or one of its fields."""

    section: Section
    field: Field | None
    cells: tuple[Cell, ...]

    @property
    def key(self) -> str:
        """The dotted key."""
        return self.field.key if self.field else self.section.name


def rows(
    draft: Draft, folded: frozenset[str], problems: Mapping[str, str], typing: Typing | None = None
) -> tuple[Row, ...]:
    """All lines that are to be seen."""
    return tuple(_rows(draft, folded, problems, typing))


def _rows(draft: Draft, folded: frozenset[str], problems: Mapping[str, str], typing: Typing | None) -> Iterator[Row]:
    values, differences = draft.values, draft.differences()
    shape, value = sections(values), standing(draft)
    for section in shape:
        closed = section.name in folded
        if section.title:
            yield Row(section, None, _head(section, values, problems, closed=closed))
        if closed:
            continue
        for field in section.fields:
            there = lookup(values, field.key)
            useless = "" if problem_at(field.key, problems) else why_not(field.key, value)
            if useless and there is None:
                continue
            cell = shown(field.default if there is None else there) or NOT_SET
            style = "" if there is not None and not useless else QUIET
            note = (useless, QUIET) if useless else _note(field, value, problems, differences)
            if typing and typing.key == field.key:
                cell, style = typing.text + "▏", "$text-accent"
                note = (f"✗ {typing.reason}", "$text-error") if typing.reason else ("✓", "$text-success")
            yield Row(section, field, (f"  {field.label}", _beside(cell, style, note), note))


def _head(
    section: Section, values: dict[str, object], problems: Mapping[str, str], *, closed: bool
) -> tuple[Cell, ...]:
    wrong = sum(key.startswith(section.name) for key in problems)
    note: Cell = (f"✗ {wrong} wrong", "$text-error") if wrong else (section.about, QUIET)
    title = f"{'▸' if closed else '▾'} {section.title}"
    said = summary(section.name, values) if closed else ""
    return (title, "bold"), _beside(said, QUIET, note), note


def _beside(text: str, style: str, note: Cell) -> Cell:
    """A value; a long one may push away a note that tells what is always true, and not one that tells what is wrong."""
    return (text if note[1] == QUIET else shortened(text, COLUMNS[1].width)), style


def standing(draft: Draft) -> Callable[[str], object]:
    """What gives the value of a dotted key as it stands: the draft's, else the default."""
    values = draft.values
    defaults = {field.key: field.default for section in sections(values) for field in section.fields}

    def value(key: str) -> object:
        there = lookup(values, key)
        return defaults.get(key) if there is None else there

    return value


def _note(
    field: Field,
    value: Callable[[str], object],
    problems: Mapping[str, str],
    differences: Mapping[str, tuple[object, object]],
) -> Cell:
    """What is to be said beside a value: what is wrong with it, what is unusual, what it was, else what it may be."""
    if reason := problem_at(field.key, problems):
        return f"✗ {reason}", "$text-error"
    far = advice.unusual(field.key, value)
    changed = [(before, now) for key, (before, now) in differences.items() if _within(key, field.key)]
    if changed:
        before = changed[0][0]
        was = f"was {shown(field.default if before is None else before) or NOT_SET}"
        return f"{was} · ! {far}" if far else was, "$text-warning"
    if far:
        return f"! {far}", "$text-warning"
    if field.choices:
        return " ".join(map(shown, field.choices)), QUIET
    usual = advice.usual(field.key, value)
    return " · ".join(part for part in (usual.says if usual else field.bounds, field.about) if part), QUIET


def problem_at(key: str, problems: Mapping[str, str]) -> str:
    """What is wrong with a value or something inside it."""
    return next((reason for place, reason in problems.items() if _within(place, key)), "")


def _within(place: str, key: str) -> bool:
    return place == key or place.startswith(f"{key}.")


def summary(name: str, values: dict[str, object]) -> str:
    """A closed section in a few words."""

    def value(key: str, default: object = "") -> str:
        found = lookup(values, f"{name}.{key}")
        return shown(default if found is None else found)

    match name.partition(".")[0]:
        case "model":
            return " ".join(
                (Path(value("base")).name or NOT_SET, value("quantization", "none"), value("dtype", "bfloat16"))
            )
        case "data":
            return Path(value("source")).name or NOT_SET
        case "template":
            return f"{value('name', 'chat')}, at most {value('max_tokens', 'auto')} tokens"
        case "split":
            return f"test {Path(value('test', 0)).name}, validation {value('validation', 0.1)}"
        case "method":
            name = value("name", "lora")
            tokens = f", {value('virtual_tokens', 20)} tokens" if name in PROMPTS[1] else ""
            return name + (f" rank {value('rank', 16)}" if name == "lora" else tokens)
        case "training":
            long = f"{value('max_steps')} steps" if value("max_steps") else f"{value('epochs', 3)} epochs"
            return f"{value('objective', 'sft')}, {long}, batch {value('effective_batch', 16)}, rate {value('learning_rate', 2e-4)}"
        case "hardware":
            gpus = value("gpus", "auto")
            return value("device", "auto") + (f", gpus {gpus}" if gpus else "")
        case _:
            return value("suites") or NOT_SET


def about(row: Row, draft: Draft) -> str:
    """What is to be known about the line under the cursor."""
    if row.field is None:
        return f"{row.section.about} enter opens and closes."
    field = row.field
    there = lookup(draft.values, field.key)
    parts = [field.about]
    value = standing(draft)
    if usual := advice.usual(field.key, value):
        far = advice.unusual(field.key, value)
        parts.append(f"{'! This is ' + far.partition(':')[0] + '. ' if far else ''}Usual: {usual.says}.")
    if field.choices:
        parts.append(f"One of {', '.join(map(shown, field.choices))}.")
    if field.bounds:
        parts.append(f"Allowed: {field.bounds}.")
    if there is not None and field.default is not None and there != field.default:
        parts.append(f"Default: {shown(field.default) or 'empty'}.")
    elif there is None and field.default == OFF:
        parts.append("Off.")
    if len(shown(there)) > COLUMNS[1].width:
        parts.append(f"Now: {shown(there)}")
    return " ".join(parts)
