"""Data files as rows, whatever their format: values are what the bytes say, never inferred, and each row knows its place.

A `Source` is opened without reading it whole where its format allows that; a broken row is a `Problem` that names file and line when that
row is asked for.
"""

from __future__ import annotations

import csv
import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import orjson

from engine import profile
from engine.data.examples import Row
from engine.data.hub_source import is_hub_id, local_copy
from engine.data.line_index import LineIndex
from engine.errors import Problem

SAMPLE: Final = 1000  # rows whose keys stand for the columns until one is looked for and not found
SUFFIXES: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


class Source(Protocol):
    """Rows of data."""

    @property
    def name(self) -> str:
        """For people."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns in the first rows, in the order of their first appearance."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the bytes of the files."""

    @property
    def has_bom(self) -> bool:
        """Whether a file starts with a byte order mark, which was passed over."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def row(self, number: int) -> Row:
        """Row `number`, counted from 0.

        Raises:
            Problem: the row is broken; `what` starts with file and line (code `data`).
        """

    @abstractmethod
    def raw(self, number: int) -> str:
        """The row as it stands in the file, for people."""


def open_source(data: profile.Data) -> Source:
    """The rows of a file, of the files in a folder or behind a glob, or of a hub data set that was downloaded.

    Raises:
        Problem: nothing there, an unknown format, an empty or broken file (code `data`).
    """
    if is_hub_id(data.source):
        return _open_file(local_copy(data))
    path = Path(data.source).expanduser()
    if any(mark in data.source for mark in "*?["):
        root = Path(path.anchor or ".")
        files = sorted(root.glob(str(path.relative_to(path.anchor))))
        return _joined([file for file in files if file.is_file()], data.source, "The glob matches no file.")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        return _joined(files, data.source, f"The folder holds no {', '.join(SUFFIXES)} file.")
    return _open_file(path)


def rows(source: Source) -> Iterator[Row]:
    """All rows in order.

    Raises:
        Problem: a broken row.
    """
    return (source.row(number) for number in range(len(source)))


def all_columns(source: Source, wanted: Sequence[str]) -> tuple[str, ...]:
    """The source's columns; when a wanted one is not among those of the first rows, all rows are looked at for late ones."""
    if all(name in source.columns for name in wanted) or len(source) <= SAMPLE:
        return source.columns
    return tuple(dict.fromkeys(name for row in rows(source) for name in row.values))


def _open_file(path: Path) -> Source:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return JsonLines(path)
    if suffix == ".json":
        return _open_json(path)
    if suffix in (".csv", ".tsv"):
        return Delimited(path)
    if suffix == ".parquet":
        from engine.data.parquet import Parquet

        return Parquet(path)
    if not path.exists():
        raise Problem(f"There is no file {path}", do="Check the path in data.source.", code="data")
    raise Problem(f"{path} is of no known format", f"Known are {', '.join(SUFFIXES)}.", code="data")


def _joined(files: Sequence[Path], name: str, why: str) -> Source:
    if not files:
        raise Problem(f"There are no data in {name}", why, code="data")
    return _open_file(files[0]) if len(files) == 1 else Several(name, tuple(_open_file(file) for file in files))


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class JsonLines:
    """A file with a JSON object on each line."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.index = LineIndex(path)
        self.has_bom = self.index.has_bom
        self._columns: tuple[str, ...] | None = None
        self._fingerprint = ""

    @property
    def columns(self) -> tuple[str, ...]:
        if self._columns is None:
            self._columns = _first_columns(self)
        return self._columns

    @property
    def fingerprint(self) -> str:
        self._fingerprint = self._fingerprint or file_fingerprint(self.index.path)
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.index)

    def row(self, number: int) -> Row:
        where = self.index.where(number)
        try:
            value = orjson.loads(self.index.record(number))
        except orjson.JSONDecodeError as error:
            raise Problem(
                f"{where}: this line is not JSON", f"{error}.", "Repair or remove the line.", code="data"
            ) from error
        if not isinstance(value, dict):
            raise Problem(f"{where}: this line is no JSON object", f"It is a {type(value).__name__}.", code="data")
        return Row(where, value, where)

    def raw(self, number: int) -> str:
        return self.index.record(number).decode("utf-8", errors="replace")


class Delimited:
    """A CSV or TSV file with a header; all values are text."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.index = LineIndex(path, quoted=True)
        self.has_bom = self.index.has_bom
        header = self.index.record(0).decode("utf-8", errors="replace")
        self.delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
        self.columns: tuple[str, ...] = tuple(next(csv.reader([header], delimiter=self.delimiter)))
        self._fingerprint = ""
        if len(self.index) < 2:
            raise Problem(f"{path} has a header and no rows", code="data")

    @property
    def fingerprint(self) -> str:
        self._fingerprint = self._fingerprint or file_fingerprint(self.index.path)
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.index) - 1

    def row(self, number: int) -> Row:
        where = self.index.where(number + 1)
        try:
            text = self.index.record(number + 1).decode("utf-8")
            cells = next(csv.reader(text.splitlines(keepends=True), delimiter=self.delimiter, strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise Problem(
                f"{where}: this row cannot be read", f"{error}.", "Repair or remove the row.", code="data"
            ) from error
        if len(cells) != len(self.columns):
            raise Problem(
                f"{where}: {len(cells)} cells in a table of {len(self.columns)} columns",
                "A cell with a comma, a quote or a line end has to stand in quotes.",
                code="data",
            )
        return Row(where, dict(zip(self.columns, cells, strict=True)), where)

    def raw(self, number: int) -> str:
        return self.index.record(number + 1).decode("utf-8", errors="replace")


class JsonObjects:
    """A JSON file that holds all rows: an array of objects, or one object whose keys are the ids."""

    def __init__(
        self, path: Path, values: Sequence[object], keys: Sequence[str] | None = None, *, has_bom: bool = False
    ) -> None:
        self.name = path.name
        self.path = path
        self.keys = keys
        self.values = values
        self.has_bom = has_bom
        self.columns = _first_columns(self)
        self._fingerprint = ""

    @property
    def fingerprint(self) -> str:
        self._fingerprint = self._fingerprint or file_fingerprint(self.path)
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.values)

    def row(self, number: int) -> Row:
        value = self.values[number]
        where = f"{self.name}:{self.keys[number] if self.keys else number + 1}"
        if not isinstance(value, dict):
            raise Problem(f"{where}: this row is no JSON object", f"It is a {type(value).__name__}.", code="data")
        return Row(self.keys[number] if self.keys else where, value, where)

    def raw(self, number: int) -> str:
        return orjson.dumps(self.values[number], option=orjson.OPT_INDENT_2).decode()


def _open_json(path: Path) -> Source:
    """A `.json` file: an array, an object keyed by id, either under one key, or JSON Lines by the wrong name."""
    index = LineIndex(path)
    content = bytes(index.bytes[3:] if index.has_bom else index.bytes)
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        lines = JsonLines(path)
        if len(lines) > 1 and lines.raw(0).rstrip().endswith("}") and lines.raw(1).startswith("{"):
            return lines
        raise Problem(f"{path}:{error.lineno}: this is not JSON", f"{error}.", code="data") from error
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), list | dict):
        inner = next(iter(value.values()))
        members = inner if isinstance(inner, list) else list(inner.values())
        value = inner if members and all(isinstance(member, dict) for member in members) else value
    if isinstance(value, dict) and value and all(isinstance(member, dict) for member in value.values()):
        return JsonObjects(path, list(value.values()), list(value), has_bom=index.has_bom)
    if isinstance(value, list) and value:
        return JsonObjects(path, value, has_bom=index.has_bom)
    raise Problem(
        f"{path} holds no rows",
        f"It is {'an empty array' if value == [] else 'a JSON ' + type(value).__name__}; wanted is an array of objects, or an object keyed by id.",
        code="data",
    )


class Several:
    """Files one after the other."""

    def __init__(self, name: str, parts: tuple[Source, ...]) -> None:
        self.name = name
        self.parts = parts
        self.has_bom = any(part.has_bom for part in parts)
        self.columns = tuple(dict.fromkeys(column for part in parts for column in part.columns))

    @property
    def fingerprint(self) -> str:
        return combined_fingerprint(self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def row(self, number: int) -> Row:
        part, inner = self._place(number)
        return part.row(inner)

    def raw(self, number: int) -> str:
        part, inner = self._place(number)
        return part.raw(inner)

    def _place(self, number: int) -> tuple[Source, int]:
        for part in self.parts:
            if number < len(part):
                return part, number
            number -= len(part)
        raise IndexError(number)


def combined_fingerprint(parts: Sequence[Source]) -> str:
    """One fingerprint for several sources; a single one keeps its own."""
    if len(parts) == 1:
        return parts[0].fingerprint
    return hashlib.sha256("\n".join(part.fingerprint for part in parts).encode()).hexdigest()


def _first_columns(source: Source) -> tuple[str, ...]:
    """The columns of the first rows; broken ones are passed over unless all are."""
    found: dict[str, None] = {}
    broken: Problem | None = None
    for number in range(min(SAMPLE, len(source))):
        try:
            values: Mapping[str, object] = source.row(number).values
        except Problem as problem:
            broken = broken or problem
            continue
        found.update(dict.fromkeys(values))
    if not found and broken:
        raise broken
    return tuple(found)
