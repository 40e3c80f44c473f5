"""What the columns really hold: every key and every JSON type, over all rows and not a sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from engine.data.mapping import columns_named

LATE: Final = 100  # rows that polars infers a schema from; a key first seen after them is lost there


@dataclass(frozen=True)
class ColumnFacts:
    """A column: `part` is what it is mapped to, `types` counts JSON types, `missing` rows that lack it, `first_row` where it was first seen."""

    name: str
    part: str
    types: Mapping[str, int]
    missing: int
    first_row: int


class ColumnWatch:
    """Takes rows one at a time."""

    def __init__(self, mappings: Mapping[str, str]) -> None:
        self._mappings = mappings
        self._types: dict[str, Counter[str]] = {}
        self._first: dict[str, int] = {}
        self._odd: dict[tuple[str, str], list[int]] = {}
        self._rows = 0

    def add(self, values: Mapping[str, object], row: int) -> None:
        """One more row, counted from 1."""
        self._rows += 1
        for name, value in values.items():
            kind = json_type(value)
            self._first.setdefault(name, row)
            self._types.setdefault(name, Counter())[kind] += 1
            rows = self._odd.setdefault((name, kind), [])
            if len(rows) < LATE:
                rows.append(row)

    def facts(self) -> tuple[ColumnFacts, ...]:
        """The columns in the order of their first appearance."""
        parts = {
            name: part for part, text in self._mappings.items() for name in columns_named(text, tuple(self._types))
        }
        return tuple(
            ColumnFacts(name, parts.get(name, ""), dict(types), self._rows - types.total(), self._first[name])
            for name, types in self._types.items()
        )

    def findings(self) -> Iterator[tuple[str, int, tuple[int, ...], str]]:
        """Finding, rows it is true of, some of their numbers, and a detail."""
        for column in self.facts():
            kinds = Counter({kind: count for kind, count in column.types.items() if kind != "null"})
            for kind, count in kinds.most_common()[1:]:
                usual = kinds.most_common(1)[0][0]
                yield (
                    "mixed_types",
                    count,
                    tuple(self._odd[column.name, kind]),
                    f"{column.name}: {kind}, mostly {usual}",
                )
            if column.first_row > LATE:
                count = self._rows - column.missing
                yield "late_keys", count, (column.first_row,), f"{column.name}, first in row {column.first_row:,}"
            elif 0 < column.missing < self._rows / 2:
                yield "missing_keys", column.missing, (), column.name


def json_type(value: object) -> str:
    """A value's JSON type: null, boolean, number, string, list or object."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, list):
        return "list"
    return "object" if isinstance(value, dict) else "string"
