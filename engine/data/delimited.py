"""CSV and TSV as rows: all cells are text, and a cell may hold commas, quotes and line ends."""

from __future__ import annotations

import csv
from functools import cached_property
from pathlib import Path

from engine.data.examples import Row
from engine.data.line_index import LineIndex
from engine.data.source import file_fingerprint
from engine.errors import Problem

csv.field_size_limit(2**31 - 1)  # texts may be longer than the 131,072 letters that csv allows


class Delimited:
    """A CSV or TSV file with a header; all values are text."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.index = LineIndex(path, quoted=True)
        self.has_bom = self.index.has_bom
        header = self.index.record(0).decode("utf-8", errors="replace")
        self.delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
        self.columns: tuple[str, ...] = tuple(next(csv.reader([header], delimiter=self.delimiter)))
        twice = [name for name in self.columns if self.columns.count(name) > 1]
        if twice:
            raise Problem(f"{path} has two columns called {twice[0]!r}", "Rename one in the header.", code="data")
        if len(self.index) < 2:
            raise Problem(f"{path} has a header and no rows", code="data")

    @cached_property
    def fingerprint(self) -> str:
        return file_fingerprint(self.index.path)

    def __len__(self) -> int:
        return len(self.index) - 1

    def row(self, number: int) -> Row:
        where = self.index.where(number + 1)
        try:
            text = self.index.record(number + 1).decode("utf-8")
            cells = next(csv.reader(text.splitlines(keepends=True), delimiter=self.delimiter, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise Problem(
                f"{where}: this row cannot be read", f"{error}.", "A quote inside a cell is written twice.", code="data"
            ) from error
        if len(cells) != len(self.columns):
            raise Problem(
                f"{where}: {len(cells)} cells in a table of {len(self.columns)} columns",
                "A cell with a comma, a quote or a line end has to stand in quotes; a quote in it is written twice.",
                code="data",
            )
        return Row(where, dict(zip(self.columns, cells, strict=True)), where)

    def raw(self, number: int) -> str:
        return self.index.record(number + 1).decode("utf-8", errors="replace")
