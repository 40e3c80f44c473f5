"""Runs and the filter language: what a filter may ask of the runs of a ledger.

`facts.fields` are fields of the filter language, and `parse` knows their aliases: nothing is left to do here, and this file goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from engine.filtering import Field
from engine.ledger.table import Row, Settings


def fields(known: Sequence[Field], rows: Iterable[Row], settings: Iterable[Settings]) -> tuple[Field, ...]:
    """`known`, which are fields already."""
    return tuple(known)


def canonical(known: Iterable[Field]) -> Mapping[str, str]:
    """The full name that each alias stands for."""
    return {alias: each.name for each in known for alias in each.aliases}
