"""From a text to a filter, with the mistakes in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from unicodedata import east_asian_width

from engine.errors import Problem, nearest
from engine.filtering.comparing import CALLED, OPERATORS, ORDER, Field, Test, Value, by_name, comparison, wrong

OPERATOR: Final = r"!=|!~|<=|>=|==|[=~<>:]"
PART: Final = re.compile(
    rf"""(?: "[^"]*(?:"|$) | [^\s"]                                   # in quotes, or a letter
    | (?<=\S)\s+(?={OPERATOR})                                       # blanks before an operator
    | (?<=[=~<>:])\s+(?=$|"|[^\s"=~<>:]+(?:\s|$)) )+                 # and behind one, where no other comparison begins
    """,
    re.VERBOSE,
)
COMPARISON: Final = re.compile(
    rf'(?P<field>(?:"[^"]*"|[^\s"=!~<>:])*)\s*(?P<operator>{OPERATOR})\s*(?P<values>.*)', re.DOTALL
)
VALUE: Final = re.compile(r'(?:"[^"]*(?:"|$)|[^",])+')
NO_AND: Final = "all parts must hold without a word between them (in quotes it is looked for)"
NO_OR: Final = "there is no or between parts, only between values: state=failed,stopped (in quotes it is looked for)"
JOINING: Final = {"and": NO_AND, "&": NO_AND, "&&": NO_AND, "or": NO_OR, "|": NO_OR, "||": NO_OR}
LISTED: Final = 20  # fields that an error names
_SPECIAL: Final = re.compile(r"^[-!]|[\s=!~<>:,]|^$")


@dataclass(frozen=True)
class Mistake:
    """What could not be understood, from `start` up to before `end` in the text; `suggestion` is what may have been meant, or empty."""

    start: int
    end: int
    message: str
    suggestion: str = ""

    def __str__(self) -> str:
        return self.message + (f" - did you mean {self.suggestion}?" if self.suggestion else "")


@dataclass(frozen=True)
class Part:
    """One condition, on a field by its full name; `turned` round it holds where it did not. `values` are as they were typed, without quotes."""

    field: str
    operator: str
    values: tuple[str, ...]
    turned: bool = False

    def __str__(self) -> str:
        values = ",".join(map(quoted, self.values))
        return f"{'-' if self.turned else ''}{quoted(self.field)}{self.operator}{values}"


@dataclass(frozen=True)
class Filter:
    """Parts that must all hold, and the mistakes in the text that they come from. An empty one holds for every row."""

    text: str = ""
    parts: tuple[Part, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    _tests: tuple[tuple[str, Test], ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        return " ".join(map(str, self.parts))

    @property
    def fields(self) -> frozenset[str]:
        """The names that `holds` may ask for."""
        return frozenset(part.field for part in self.parts)

    def holds(self, fact: Callable[[str], Value]) -> bool:
        """Whether a row passes; `fact` gives its value for the name of a field."""
        for name, test in self._tests:  # noqa: SIM110 - `all` takes twice as long, for thousands of rows at every key
            if not test(fact(name)):
                return False
        return True


def parse(text: str, fields: Sequence[Field]) -> Filter:
    """The filter that `text` means; plain words are looked for in the first of the fields. Never raises."""
    known = by_name(fields)
    parts: list[Part] = []
    tests: list[tuple[str, Test]] = []
    mistakes: list[Mistake] = []
    found_parts = list(PART.finditer(text))
    for found in found_parts:
        if len(found_parts) > 1 and (why := JOINING.get(found[0].strip().casefold())):
            mistakes.append(Mistake(found.start(), found.end(), why))
            continue
        part = _part(found[0], found.start(), known, fields[0], mistakes)
        if part is not None:
            test = comparison(known[part.field.casefold()], part.operator, part.values)
            parts.append(part)
            tests.append((part.field, _opposite(test) if part.turned else test))
    return Filter(text, tuple(parts), tuple(mistakes), tuple(tests))


def strict(text: str, fields: Sequence[Field]) -> Filter:
    """As `parse`, for where nobody can put it right while typing.

    Raises:
        Problem: there is a mistake in it; its place is pointed at.
    """
    made = parse(text, fields)
    if made.mistakes:
        mistake = made.mistakes[0]
        names = ", ".join(each.name for each in fields[:LISTED]) + (", ..." if len(fields) > LISTED else "")
        raise Problem(
            f"The filter is not understood: {mistake}", pointed(text, mistake), f"Fields: {names}", code="filter"
        )
    return made


def pointed(text: str, mistake: Mistake) -> str:
    """The text on one line, and under it carets where the mistake is."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    carets = "^" * max(1, _columns(line[mistake.start : mistake.end]))
    return f"{line}\n{' ' * _columns(line[: mistake.start])}{carets}"


def plain(text: str) -> str:
    """Without quotes."""
    return text.replace('"', "")


def quoted(text: str) -> str:
    """In quotes, if it would mean something else without."""
    return f'"{text}"' if _SPECIAL.search(text) else text


def _opposite(test: Test) -> Test:
    return lambda value: not test(value)


def _columns(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _part(text: str, start: int, known: Mapping[str, Field], first: Field, mistakes: list[Mistake]) -> Part | None:
    """A part; None where nothing of it can be understood. `start` is its place in the whole text."""
    if text.count('"') % 2:
        mistakes.append(Mistake(start + text.rindex('"'), start + len(text), "the quote is not closed"))
    turned = len(text) > 1 and text[0] in "-!"
    body, at = (text[1:] if turned else text).rstrip(), start + turned
    found = COMPARISON.match(body)
    if found is None:
        return Part(first.name, "~", (plain(body),), turned)
    name, symbol = plain(found["field"]), found["operator"]
    there, behind = at + found.start("operator"), at + found.end("operator")
    of = known.get(name.casefold())
    if of is None:
        if near := nearest(name.casefold(), known):
            mistakes.append(Mistake(at, at + found.end("field"), f"there is no field {name}", near))
        else:
            why = f"there is no field {name}" if name else f"there is no field before {symbol}"
            mistakes.append(Mistake(at, at + len(body), why, f'"{plain(body)}"'))
        return None
    symbol = "=" if symbol in (":", "==") else symbol
    if symbol not in OPERATORS[of.kind]:
        allowed = " ".join(OPERATORS[of.kind])
        mistakes.append(Mistake(there, behind, f"{of.name} is {CALLED[of.kind]}: it takes {allowed}"))
        return None
    if not VALUE.search(found["values"]):
        mistakes.append(Mistake(there, behind, f"nothing stands behind {of.name}{symbol}"))
        return None
    values = _values(found["values"], at + found.start("values"), of, symbol, mistakes)
    return Part(of.name, symbol, values, turned) if values else None


def _values(text: str, start: int, of: Field, symbol: str, mistakes: list[Mistake]) -> tuple[str, ...]:
    """The values between commas that can be understood."""
    found = list(VALUE.finditer(text))
    if symbol in ORDER and len(found) > 1:
        mistakes.append(Mistake(start, start + len(text), f"{symbol} takes one number, with a point for decimals"))
        return ()
    values = []
    for each in found:
        value = plain(each[0])
        if why := wrong(value, of, symbol):
            suggestion = nearest(value.casefold(), of.values)
            mistakes.append(Mistake(start + each.start(), start + each.end(), why, suggestion))
        else:
            values.append(value)
    return tuple(values)
