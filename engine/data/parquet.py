"""Parquet files as rows, read a thousand at a time."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Final

import orjson
import polars

from engine.data.examples import Row
from engine.data.source import file_fingerprint
from engine.errors import Problem

PAGE: Final = 1000  # rows decoded at once: a slice costs about the same as a row


class Parquet:
    """A parquet file; values have the types that it declares."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise Problem(f"There is no file {path}", do="Check the path in data.source.", code="data")
        self.name = path.name
        self.path = path
        self.has_bom = False
        self._page = -1
        self._rows: list[dict[str, object]] = []
        try:
            self._frame = polars.scan_parquet(path)
            self.columns: tuple[str, ...] = tuple(self._frame.collect_schema().names())
            self._count = int(self._frame.select(polars.len()).collect().item())
        except (polars.exceptions.PolarsError, OSError) as error:
            raise Problem(f"{path} cannot be read as parquet", f"{error}.", code="data") from error
        if not self._count:
            raise Problem(f"{path} is empty", "It has no rows.", code="data")

    @cached_property
    def fingerprint(self) -> str:
        return file_fingerprint(self.path)

    def __len__(self) -> int:
        return self._count

    def row(self, number: int) -> Row:
        page, place = divmod(number, PAGE)
        if page != self._page:
            self._rows = self._frame.slice(page * PAGE, PAGE).collect().to_dicts()
            self._page = page
        where = f"{self.name}:{number + 1}"
        return Row(where, self._rows[place], where)

    def raw(self, number: int) -> str:
        return orjson.dumps(self.row(number).values, default=str, option=orjson.OPT_INDENT_2).decode()
