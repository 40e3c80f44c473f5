"""Where each record of a text file starts and ends: found with NumPy over the mapped bytes, so a million rows open in a fraction of a second.

The bytes are the truth: a record is read from its place in the file when it is asked for, and nothing is inferred from a sample.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import Problem

CHUNK: Final = 1 << 25  # bytes looked at in one go; bounds the memory that finding line ends takes
BOM: Final = b"\xef\xbb\xbf"
_NEWLINE: Final = ord("\n")
_QUOTE: Final = ord('"')


class LineIndex:
    """The records of a text file; blank lines are none. `quoted` files (CSV) may have line ends inside quotes."""

    def __init__(self, path: Path, *, quoted: bool = False) -> None:
        """Map and index the file.

        Raises:
            Problem: there is no such file, it is a folder, empty, or cannot be read (code `data`).
        """
        self.path = path
        self.bytes = _mapped(path)
        self.has_bom = self.bytes[:3] == BOM
        ends, lines = _record_ends(np.frombuffer(self.bytes, dtype=np.uint8), quoted)
        starts = np.concatenate([[3 if self.has_bom else 0], ends[:-1] + 1])
        full = _not_blank(self.bytes, starts, ends)
        self.starts: NDArray[np.int64] = starts[full]
        self.ends: NDArray[np.int64] = ends[full]
        self.lines: NDArray[np.int64] = lines[full]
        if not len(self.starts):
            raise Problem(f"{path} is empty", "It has no line that is not blank.", code="data")

    def __len__(self) -> int:
        return len(self.starts)

    def record(self, number: int) -> bytes:
        """The bytes of a record, without its line end."""
        return self.bytes[int(self.starts[number]) : int(self.ends[number])].rstrip(b"\r")

    def where(self, number: int) -> str:
        """`file:line` of a record's first line, counted from 1."""
        return f"{self.path.name}:{int(self.lines[number])}"


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise Problem(f"There is no file {path}", do="Check the path.", code="data") from None
    except IsADirectoryError:
        raise Problem(f"{path} is a folder", do="Give a file in it.", code="data") from None
    except ValueError:  # what mmap says about nothing
        raise Problem(f"{path} is empty", "It has 0 bytes.", code="data") from None
    except OSError as error:
        raise Problem(f"{path} cannot be read", f"{error.strerror}.", code="data") from error


def _record_ends(content: NDArray[np.uint8], quoted: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The byte after each record and the line that it starts on. A line end inside an odd number of quotes ends no record."""
    ends: list[NDArray[np.int64]] = []
    lines: list[NDArray[np.int64]] = []
    quotes = newlines = 0
    for offset in range(0, len(content), CHUNK):
        chunk = content[offset : offset + CHUNK]
        found = np.flatnonzero(chunk == _NEWLINE)
        counted = np.arange(newlines, newlines + len(found))
        newlines += len(found)
        if quoted:
            marks = np.flatnonzero(chunk == _QUOTE)
            outside = (np.searchsorted(marks, found) + quotes) % 2 == 0
            quotes += len(marks)
            found, counted = found[outside], counted[outside]
        ends.append(found.astype(np.int64) + offset)
        lines.append(counted.astype(np.int64))
    all_ends = np.concatenate(ends)
    last_lines = np.concatenate(lines)  # zero-based number of the line that each record ends on
    if not len(all_ends) or all_ends[-1] != len(content) - 1:
        all_ends = np.append(all_ends, len(content))
        last_lines = np.append(last_lines, newlines)
    return all_ends, np.concatenate([[1], last_lines[:-1] + 2])


def _not_blank(content: mmap.mmap, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    full = ends > starts
    for number in np.flatnonzero(
        (ends - starts < 64) & full
    ):  # only short lines can be blanks alone; long ones are worth parsing
        full[number] = bool(content[int(starts[number]) : int(ends[number])].strip())
    return full
