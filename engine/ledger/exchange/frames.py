"""Files of rows as data frames: CSV, JSON lines, Parquet, whole or with a last line that is still being written."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import Problem
from engine.ledger.exchange import foreign
from engine.ledger.exchange.imported import Kind

if TYPE_CHECKING:
    import polars

SUFFIXES: Final[Mapping[str, Kind]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
MILLISECONDS: Final = 1e11  # a time beyond it is in milliseconds: in seconds it would be the year 5138


@dataclass(frozen=True)
class Frame:
    """The whole rows of a file, how many bytes wait at its end for their rest, how many of its lines are no rows."""

    rows: polars.DataFrame
    waiting: int = 0
    damaged: int = 0


def read(path: Path, kind: Kind) -> Frame:
    """All whole rows of the file.

    Raises:
        OSError: it cannot be read.
        Problem: it is not what its name says.
    """
    import polars

    data = path.read_bytes()
    if kind != "parquet" and data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise Problem(f"{path} is in UTF-16", "Only UTF-8 is read.", "Save it as UTF-8.", code="import")
    try:
        if kind == "parquet":
            return Frame(polars.read_parquet(io.BytesIO(data)))
        whole = data.rfind(b"\n") + 1
        if kind == "csv":
            return Frame(_csv(data[:whole]), len(data) - whole)
    except polars.exceptions.PolarsError as error:
        what = "a whole Parquet file" if kind == "parquet" else "a table"
        raise Problem(f"{path} is not {what}", f"{error}.".splitlines()[0], code="import") from error
    if _leaves(data[whole:]) is not None:  # an object that ends is whole, with or without a line break
        whole = len(data)
    found = [_leaves(line) for line in data[:whole].splitlines() if line.strip()]
    rows = [row for row in found if row is not None]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = [polars.Series(name, [row.get(name) for row in rows], strict=False) for name in names]
    return Frame(polars.DataFrame(columns), len(data) - whole, len(found) - len(rows))


def _csv(data: bytes) -> polars.DataFrame:
    """Lines of text under their titles, all cells as texts; what separates them is what the first line has most of."""
    import polars

    header = data.partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    if not header.strip():
        return polars.DataFrame()
    separator = max(",;\t", key=header.count)
    rows = polars.read_csv(
        data, separator=separator, infer_schema=False, truncate_ragged_lines=True, encoding="utf8-lossy"
    )
    rows = rows.filter(~polars.all_horizontal(polars.all().is_null()))  # blank lines
    return rows.rename({name: name.strip() for name in rows.columns}, strict=False)


def _leaves(line: bytes) -> dict[str, str | int | float] | None:
    """The texts and numbers of a JSON object by dotted key; None where the line is none."""
    try:
        found = foreign.parsed(line)
    except ValueError:
        return None
    return dict(_flat("", found)) if isinstance(found, dict) else None


def _flat(prefix: str, value: Mapping[str, object]) -> Iterator[tuple[str, str | int | float]]:
    for key, each in value.items():
        if isinstance(each, Mapping):
            yield from _flat(f"{prefix}{key}.", each)
        elif isinstance(each, str | int | float):
            yield f"{prefix}{key}", each


def numbers(column: polars.Series) -> polars.Series:
    """The column as float64, with texts of numbers (`1e-4`, `nan`, `inf`) among them; null where there is no number."""
    import polars

    if column.dtype == polars.String or column.dtype == polars.Categorical:
        column = column.cast(polars.String).str.strip_chars()
    elif not (column.dtype.is_numeric() or column.dtype == polars.Boolean):
        return polars.Series(column.name, [None] * len(column), polars.Float64)
    return column.cast(polars.Float64, strict=False)


def unread(column: polars.Series) -> int:
    """How many texts stand among the numbers of a column; none where it is a column of texts."""
    import polars

    found = numbers(column)
    if column.dtype != polars.String or found.null_count() == len(found):
        return 0
    return int((found.is_null() & (column.str.strip_chars() != "")).sum())


def seconds(column: polars.Series) -> polars.Series:
    """Times in seconds since the epoch: of seconds, milliseconds, dates, or texts of these; null where there is none."""
    import polars

    found = numbers(column)
    if found.null_count() == len(column):
        times = [_time(value) for value in column.to_list()]
        return polars.Series(column.name, times, polars.Float64)
    found = found.zip_with((found <= MILLISECONDS).fill_null(True), found / 1000)
    return found.zip_with((found.abs() <= MILLISECONDS).fill_null(False), polars.Series([None], dtype=polars.Float64))


def _time(value: object) -> float | None:
    """An ISO time, or a time of a data frame's; without a zone it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return None
