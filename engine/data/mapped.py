"""A source with its column mapping: rows come out as examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine import profile
from engine.data.examples import ALPACA_INPUT, Example, Row, map_row
from engine.data.mapping import Objective, check_columns, check_objective, columns_named, guess_columns
from engine.data.sources import Source, all_columns, open_source


@dataclass(frozen=True)
class MappedSource:
    """Rows of `source` as examples; `mappings` says which columns hold what."""

    source: Source
    mappings: Mapping[str, str]
    input_heading: str
    weight: float

    def __len__(self) -> int:
        return len(self.source)

    def example(self, number: int) -> Example:
        """Row `number` (from 0) as an example.

        Raises:
            Problem: the row is broken.
        """
        return self.mapped(self.source.row(number))

    def mapped(self, row: Row) -> Example:
        """As `example`, of a row that was read already."""
        return map_row(row, self.mappings, input_heading=self.input_heading)


def open_mapped(data: profile.Data, template: profile.Template, objective: Objective = "sft") -> MappedSource:
    """Open a source and see that the columns which the objective needs are there; without a mapping they are guessed from their names.

    Raises:
        Problem: no such data, a broken file, or a missing column (code `data`).
    """
    source = open_source(data)
    if data.columns:
        wanted = [name for mapping in data.columns.values() for name in columns_named(mapping, source.columns)]
        check_columns(data.columns, all_columns(source, wanted), source.name)
        check_objective(data.columns, objective, source.name)
    mappings = dict(data.columns) or guess_columns(source.columns, source.name, objective)
    return MappedSource(source, mappings, ALPACA_INPUT if template.name == "alpaca" else "", data.weight)
