"""Where each record of a text file starts and ends: found with NumPy over the mapped bytes, so a million rows open in a fraction of a second.

The bytes are the truth: a record is read from its place in the file when it is asked for, and nothing is inferred from a sample.
"""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import Problem

CHUNK: Final = 1 << 25  # bytes looked at in one go; bounds the memory that finding line ends takes
BOM: Final = b"\xef\xbb\xbf"
UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_NEWLINE: Final = ord("\n")
_QUOTE: Final = ord('"')
_BLANKS: Final = np.frombuffer(b" \t\r\v\f", dtype=np.uint8)


class LineIndex:
    """The records of a text file; blank lines are none. `quoted` files (CSV) may have line ends inside quotes."""

    def __init__(self, path: Path, *, quoted: bool = False) -> None:
        """Map and index the file.

        The map is let go at once and records are read instead: of a file that another program cuts short, mapped bytes would kill us.

        Raises:
            Problem: there is no such file, it is a folder, empty, not UTF-8, or cannot be read (code `data`).
        """
        self.path = path
        self._file = _opened(path)
        weakref.finalize(self, os.close, self._file)
        try:
            content = np.frombuffer(mmap.mmap(self._file, 0, access=mmap.ACCESS_READ), dtype=np.uint8)
        except ValueError:  # what mmap says about nothing
            raise Problem(f"{path} is empty", "It has 0 bytes.", code="data") from None
        head = content[:3].tobytes()
        self.has_bom = head == BOM
        if head[:2] in UTF16:
            do = f"Convert it: iconv -f UTF-16 -t UTF-8 {path.name} > new{path.suffix}"
            raise Problem(f"{path} is UTF-16", "Data are read as UTF-8.", do, code="data")
        ends, lines = _record_ends(content, quoted)
        starts = np.concatenate([[3 if self.has_bom else 0], ends[:-1] + 1])
        full = _not_blank(content, starts, ends)
        self.starts: NDArray[np.int64] = starts[full]
        self.ends: NDArray[np.int64] = ends[full]
        self.lines: NDArray[np.int64] = lines[full]
        if not len(self.starts):
            raise Problem(f"{path} is empty", "It has no line that is not blank.", code="data")

    def __len__(self) -> int:
        return len(self.starts)

    def record(self, number: int) -> bytes:
        """The bytes of a record, without its line end."""
        start, end = int(self.starts[number]), int(self.ends[number])
        return os.pread(self._file, end - start, start).rstrip(b"\r")

    def where(self, number: int) -> str:
        """`file:line` of a record's first line, counted from 1."""
        return f"{self.path.name}:{int(self.lines[number])}"


def _opened(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Problem(
            f"There is no file {path}", do="Name it as data.source (--set data.0.source=FILE).", code="data"
        ) from None
    except OSError as error:
        raise Problem(f"{path} cannot be read", f"{error.strerror}.", code="data") from error
    if path.is_dir():
        os.close(file)
        raise Problem(f"{path} is a folder", do="Give a file in it.", code="data")
    return file


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


def _not_blank(content: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    full = ends > starts
    suspects = np.flatnonzero(full)[np.isin(content[starts[full]], _BLANKS)]
    for number in suspects:
        full[number] = bool(content[starts[number] : ends[number]].tobytes().strip())
    return full
