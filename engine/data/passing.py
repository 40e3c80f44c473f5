"""Rows of data and the filter language: what a filter may ask of a row, and which rows pass it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.data.examples import Example, Row
from engine.data.opened import Looked, Opened
from engine.errors import Problem
from engine.filtering import Field, Filter, Value

RAW: Final = Field("raw", "text", "the row as it stands in its file")
ROW: Final = Field("row", "number", "its number")
LABEL: Final = Field("label", "text", "its label")
LENGTHS: Final = {
    "tokens": Field("tokens", "number", "tokens of the whole row"),
    "supervised": Field("supervised", "number", "tokens that the loss counts"),
    "characters": Field("characters", "number", "characters of the whole row"),
}
LISTED: Final = 12  # labels that are offered
TELL_EVERY: Final = 256  # rows


def fields(opened: Opened, looked: Looked | None) -> tuple[Field, ...]:
    """What can be asked of a row: its text (plain words), number, lengths, label, its columns, and, once all
    rows were looked at, what was found in it and which part of the split it belongs to.

    A column that is called like one of the others is asked for as `column.NAME`.
    """
    lengths = ("tokens", "supervised") if opened.renderer is not None else ("characters",)
    own = [RAW, ROW, *(LENGTHS[name] for name in lengths), LABEL]
    if looked is not None:
        own.append(Field("finding", "choice", "what was found in it", tuple(sorted(looked.rows_of))))
        if looked.split:
            own.append(Field("split", "choice", "the part it belongs to", tuple(looked.split)))
    return (*own, *(Field(name, "any", f"the column {column}") for name, column in columns(opened).items()))


def columns(opened: Opened) -> dict[str, str]:
    """The names that a filter has for columns of the data."""
    taken = {RAW.name, ROW.name, LABEL.name, "finding", "split", *LENGTHS}
    known = dict.fromkeys(column for source in opened.sources for column in source.source.columns)
    return {f"column.{column}" if column.casefold() in taken else column: column for column in known if column}


def values(looked: Looked | None, name: str) -> tuple[str, ...]:
    """The values that occur in a field, as far as they are known without reading: the most frequent labels."""
    if name != LABEL.name or looked is None:
        return ()
    return tuple(looked.report.labels)[:LISTED]


def passing(
    opened: Opened,
    looked: Looked | None,
    only: Filter,
    rows: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[int] | None:
    """Those of `rows` (from 0) that pass; None where `stopped` said so in between.

    A row is read only where the filter asks for what stands in it. What a broken row has not is not there.
    """
    known = {"finding": looked.rows_of, "split": looked.split} if looked else {}
    masks = {name: _masks(len(opened), of) for name, of in known.items() if name in only.fields}
    named = columns(opened)
    found = []
    for place, row in enumerate(rows):
        if place % TELL_EVERY == 0:
            if stopped():
                return None
            if progress:
                progress(place, len(rows))
        if only.holds(_Facts(opened, row, named, masks).value):
            found.append(row)
    return found


def _masks(rows: int, rows_of: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[np.bool_]]:
    """Of each name whether it is true of a row: [rows]."""
    masks = {}
    for name, numbers in rows_of.items():
        masks[name] = np.zeros(rows, np.bool_)
        masks[name][numbers[numbers <= rows] - 1] = True  # a test set of its own is divided too, but not looked at here
    return masks


@dataclass
class _Facts:
    """What a filter may know of one row; read when it is first asked for."""

    opened: Opened
    row: int
    columns: Mapping[str, str]
    masks: Mapping[str, Mapping[str, NDArray[np.bool_]]]

    def value(self, name: str) -> Value:
        if name == "raw":
            return self.opened.raw(self.row)
        if name == "row":
            return self.row + 1
        if name in LENGTHS:
            measured = self.opened.measured
            length = int((measured.supervised if name == "supervised" else measured.lengths)[self.row])
            return length if length >= 0 else None
        if name == "label":
            return self._example.label if self._example else None
        if name in self.masks:
            return tuple(each for each, mask in self.masks[name].items() if mask[self.row])
        return _plain(self._values.get(self.columns[name]))

    @cached_property
    def _source_row(self) -> Row | None:
        source, number = self.opened.place(self.row)
        try:
            return source.source.row(number)
        except Problem:
            return None

    @property
    def _values(self) -> Mapping[str, object]:
        return self._source_row.values if self._source_row else {}

    @cached_property
    def _example(self) -> Example | None:
        source, _ = self.opened.place(self.row)
        try:
            return source.mapped(self._source_row) if self._source_row else None
        except Problem:
            return None


def _plain(value: object) -> Value:
    """Texts and numbers as they are, lists of texts as such, what is nested as JSON."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    return json.dumps(value, ensure_ascii=False, default=str)
