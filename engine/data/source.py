"""What a source of rows is, whatever its format."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from engine.data.examples import Row
from engine.errors import Problem

SAMPLE: Final = 1000  # rows whose keys stand for the columns until one is looked for and not found


class Source(Protocol):
    """Rows of data."""

    @property
    @abstractmethod
    def name(self) -> str:
        """For people."""

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """The names of the columns in the first rows, in the order of their first appearance."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over the bytes of the files."""

    @property
    @abstractmethod
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


def rows(source: Source) -> Iterator[Row]:
    """All rows in order.

    Raises:
        Problem: a broken row.
    """
    return (source.row(number) for number in range(len(source)))


def first_columns(source: Source) -> tuple[str, ...]:
    """The columns of the first rows; broken ones are passed over unless all are."""
    found: dict[str, None] = {}
    broken: Problem | None = None
    for number in range(min(SAMPLE, len(source))):
        try:
            values = source.row(number).values
        except Problem as problem:
            broken = broken or problem
            continue
        found.update(dict.fromkeys(values))
    if not found and broken:
        raise broken
    return tuple(found)


def file_fingerprint(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
