"""Runs and the filter language: what a filter may ask of the runs of a ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

from engine.filtering import Field
from engine.ledger import facts
from engine.ledger.states import State
from engine.ledger.table import Row, Settings

YES: Final = ("yes", "no")
FLAG: Final = ("true", "false")  # as in a profile


def fields(known: Sequence[facts.Field], rows: Iterable[Row], settings: Iterable[Settings]) -> tuple[Field, ...]:
    """The fields of a filter for what is `known` (`facts.fields`), with the values that choices have here; an alias is a field of its own."""
    choices = {
        "state": tuple(State),
        "baseline": YES,
        "archived": YES,
        "method": tuple(sorted({facts.method(each) for each in settings} - {""})),
        "source": tuple(sorted({row.source for row in rows} - {""})),
    }
    made: dict[str, Field] = {}
    for each in known:
        values = choices.get(each.name, FLAG) if each.kind == "choice" else ()
        for name in (each.name, *each.aliases):
            made.setdefault(name, Field(name, each.kind, each.help, values))
    return tuple(made.values())


def canonical(known: Iterable[facts.Field]) -> Mapping[str, str]:
    """The full name that each alias stands for."""
    return dict(chain.from_iterable(((alias, each.name) for alias in each.aliases) for each in known))
