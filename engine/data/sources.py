"""Data sources: a file of a known format, a folder, a glob, or a hub data set that was downloaded.

Values are what the bytes say, never inferred, and each row knows its place. A broken row is a `Problem` that names file and line when that
row is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from engine import profile
from engine.data.delimited import Delimited
from engine.data.examples import Row
from engine.data.hub_source import is_hub_id, local_copy
from engine.data.json_files import JsonLines, open_json
from engine.data.source import SAMPLE, Source, rows
from engine.data.text_files import SUFFIX, TextFiles
from engine.errors import Problem

__all__ = ["SUFFIXES", "Source", "all_columns", "check_there", "combined_fingerprint", "open_source", "rows"]

SUFFIXES: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", SUFFIX)


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
        tables = [file for file in files if file.suffix != SUFFIX]  # beside tables a text is a note about them
        return _joined(tables or files, data.source, f"The folder holds no {', '.join(SUFFIXES)} file.")
    return _open_file(path)


def check_there(data: profile.Data) -> None:
    """See that a file or folder exists, without reading it: what costs nothing to find is found before anything is downloaded.

    Raises:
        Problem: it does not (code `data`).
    """
    path = Path(data.source).expanduser()
    if not is_hub_id(data.source) and not any(mark in data.source for mark in "*?[") and not path.exists():
        raise _missing(path)


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
        return open_json(path)
    if suffix in (".csv", ".tsv"):
        return Delimited(path)
    if suffix == ".parquet":
        from engine.data.parquet import Parquet

        return Parquet(path)
    if suffix == SUFFIX:
        return TextFiles(path.name, [path])
    if not path.exists():
        raise _missing(path)
    raise Problem(f"{path} is of no known format", f"Known are {', '.join(SUFFIXES)}.", code="data")


def _missing(path: Path) -> Problem:
    return Problem(f"There is no file {path}", do="Check the path in data.source.", code="data")


def _joined(files: Sequence[Path], name: str, why: str) -> Source:
    if not files:
        raise Problem(f"There are no data in {name}", why, code="data")
    if all(file.suffix.lower() == SUFFIX for file in files):
        return TextFiles(name, files)
    return _open_file(files[0]) if len(files) == 1 else Several(name, tuple(_open_file(file) for file in files))


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
