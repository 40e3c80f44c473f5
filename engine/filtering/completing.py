"""What may come next while a filter is typed: a field, then an operator, then values that occur."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from engine.filtering.comparing import CALLED, OPERATORS, Field, by_name
from engine.filtering.parsing import COMPARISON, PART, VALUE, plain, quoted


@dataclass(frozen=True)
class Completions:
    """`choices` may take the place of the text from `start` up to before `end`, the likeliest first; `hint` says what is meant there."""

    start: int
    end: int
    choices: tuple[str, ...] = ()
    hint: str = ""

    def applied(self, text: str, choice: str) -> str:
        """The text with a choice in its place."""
        return text[: self.start] + choice + text[self.end :]


def completions(
    text: str, cursor: int, fields: Sequence[Field], values: Callable[[str], Iterable[str]] = lambda _: ()
) -> Completions:
    """What may stand at the cursor. `values` gives those that occur for a field's name; a choice knows its own."""
    part = next((found[0] for found in PART.finditer(text[:cursor]) if found.end() == cursor), "")
    body = part[1:] if part[:1] in ("-", "!") else part
    start = cursor - len(body)
    compared = COMPARISON.match(body)
    if compared is None:
        return _fields(plain(body), start, cursor, fields)
    of = by_name(fields).get(plain(compared["field"]).casefold())
    if of is None:
        return Completions(cursor, cursor)
    typed = compared["values"]
    last = next((each[0] for each in VALUE.finditer(typed) if each.end() == len(typed)), "")
    occur = of.values or tuple(values(of.name))
    choices = tuple(quoted(each) for each in _matching(plain(last), occur))
    return Completions(cursor - len(last), cursor, choices, f"{of.help}: {CALLED[of.kind]}")


def settled(text: str, cursor: int, fields: Sequence[Field]) -> str:
    """The text without a word at the cursor that may yet become the name of a field: as a word it would let nothing pass meanwhile."""
    names = by_name(fields)
    for part in PART.finditer(text):
        between = text[part.end() : cursor]  # blanks may come before an operator
        if part.end() > cursor or between.strip() or COMPARISON.match(part[0].lstrip("-!")):
            continue
        word = plain(part[0].lstrip("-!")).casefold()
        if word in names if between else any(name.startswith(word) for name in names):
            return text[: part.start()] + text[part.end() :]
    return text


def _fields(typed: str, start: int, cursor: int, fields: Sequence[Field]) -> Completions:
    """Names of fields; where one stands there whole, what may follow it."""
    whole = by_name(fields).get(typed.casefold())
    if whole is not None:
        return Completions(cursor, cursor, OPERATORS[whole.kind], whole.help)
    names = _matching(typed, [each.name for each in fields])
    return Completions(start, cursor, tuple(map(quoted, names)), f"in {fields[0].help}")


def _matching(typed: str, known: Iterable[str]) -> list[str]:
    """Those that begin with what is typed, then those with a part that does, then those that hold it; what stands there already is none."""
    folded = typed.casefold()
    ranked: list[list[str]] = [[], [], []]
    for each in known:
        name = each.casefold()
        if name == folded:
            continue
        if name.startswith(folded):
            ranked[0].append(each)
        elif any(f"{mark}{folded}" in name for mark in "./_-"):
            ranked[1].append(each)
        elif folded in name:
            ranked[2].append(each)
    return [each for rank in ranked for each in rank]
