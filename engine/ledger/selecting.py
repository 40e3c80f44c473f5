"""Runs that a command line asks for: those that pass a filter, in an order, with what is known of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from engine.errors import Problem, closest
from engine.filtering import Field, Value, by_name, strict
from engine.ledger import facts, table
from engine.ledger.best import higher_is_better
from engine.ledger.store import Ledger
from engine.ledger.table import Row, Settings

CREATED: Final = "created"
"""The order in which the table has them: newest first."""


@dataclass(frozen=True, eq=False)
class Selected:
    """`rows` with the `settings` of all runs by row id; `fields` are what can be asked of them, `now` what ages count from (epoch seconds)."""

    rows: tuple[Row, ...]
    settings: Mapping[int, Settings]
    fields: tuple[Field, ...]
    now: float

    def value(self, row: Row, name: str) -> Value:
        """What a row has under the name of a field; metrics only where they were asked for."""
        return facts.fact(row, self.settings.get(row.id, {}), name, now=self.now)


def selected(ledger: Ledger, text: str = "", *, names: Iterable[str] = (), archived: bool = False) -> Selected:
    """The runs that pass the filter `text`, newest first, with all that `names` of fields ask for.

    Archived runs are left out unless `archived` says so or the filter asks about them; runs in the bin always.

    Raises:
        Problem: a mistake in the filter.
    """
    settings = table.settings(ledger)
    metrics = [str(row[0]) for row in ledger.rows("SELECT name FROM key ORDER BY name")]
    fields = facts.fields(settings.values(), metrics)
    only = strict(text, fields)
    known = by_name(fields)
    asked = only.fields | {known[name.casefold()].name if name.casefold() in known else name for name in names}
    keys = sorted({of[0] for name in asked if (of := facts.metric(name)) is not None})
    rows = table.read(ledger, keys, archived=archived or "archived" in only.fields).rows
    found = Selected(rows, settings, fields, time.time())
    passing = tuple(row for row in rows if only.holds(partial(found.value, row)))
    return Selected(passing, settings, fields, found.now)


def field_called(name: str, fields: Sequence[Field]) -> Field:
    """The field with this name or alias.

    Raises:
        Problem: there is none.
    """
    known = by_name(fields)
    if name.casefold() not in known:
        raise Problem(
            f"Runs have no {name}{closest(name, known)}",
            "Columns and orders are named as in a filter.",
            f"There are {', '.join(each.name for each in facts.FIELDS)}, any setting (method.rank) and any metric (train/loss.best).",
            code="field",
        )
    return known[name.casefold()]


def in_order(found: Selected, by: str, *, reverse: bool = False) -> tuple[Row, ...]:
    """The rows by a field: the best, the lowest, or the first in the alphabet first; those without one, and NaN, always last.

    Raises:
        Problem: no such field.
    """
    if by == CREATED:
        return found.rows[::-1] if reverse else found.rows
    name = field_called(by, found.fields).name
    asked = facts.metric(name)
    falling = (asked is not None and higher_is_better(asked[0])) is not reverse
    values = [(found.value(row, name), row) for row in found.rows]
    there = [(_key(value), row) for value, row in values if _there(value)]
    there.sort(key=lambda pair: pair[0], reverse=falling)
    return (*(row for _, row in there), *(row for value, row in values if not _there(value)))


def _there(value: Value) -> bool:
    return value not in (None, "", ()) and not (isinstance(value, float) and math.isnan(value))


def _key(value: Value) -> tuple[bool, float, str]:
    """Numbers before texts: a setting may be either."""
    if isinstance(value, int | float):
        return False, value, ""
    return True, 0.0, (value if isinstance(value, str) else " ".join(value or ())).casefold()
