"""The log that wandb keeps of a run (`run-ID.wandb`) as records: blocks of 32 KiB, appended to while somebody reads.

LevelDB's format (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind seven bytes of wandb's own, with the
checksum of zlib (CRC-32) over a fragment's type and bytes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAGIC: Final = b":W&B\xe1\xbe"  # then a byte that is the format's version
VERSION: Final = 0
BEGIN: Final = 7
BLOCK: Final = 32768
HEADER: Final = 7  # checksum, length, type
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass(frozen=True)
class Records:
    """What was whole behind an offset: `records`, where the next one begins, how many bytes wait there for their rest.

    `more` says that what is there has not been looked at to its end; `damaged` counts places where bytes were passed over.
    """

    records: list[bytes]
    offset: int
    waiting: int
    more: bool
    damaged: int


def is_log(path: Path) -> bool:
    """Whether the file begins as such a log does."""
    with path.open("rb") as file:
        return file.read(BEGIN) == MAGIC + bytes([VERSION])


def read(path: Path, offset: int, blocks: int = 256) -> Records:
    """Whole records of the file behind `offset` (0 at first), as many as lie in so many blocks; a larger one is read whole.

    What is wrong in the file's last block is taken for being half written, as is a record whose last fragment is missing.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < BEGIN:
            return Records([], 0, size, more=False, damaged=0)
        offset = file.seek(offset if BEGIN <= offset <= size else BEGIN)  # shorter than it was: another file
        data = file.read((offset // BLOCK + blocks) * BLOCK - offset)
    at_end = offset + len(data) >= size
    found, whole, damaged = _walk(data, offset, at_end=at_end)
    if not whole and not at_end:
        return read(path, offset, 2 * blocks)
    return Records(found, offset + whole, size - offset - whole, not at_end, damaged)


def _walk(data: bytes, offset: int, *, at_end: bool) -> tuple[list[bytes], int, int]:
    """The whole records in `data`, which lies at `offset`; how far they go; at how many places bytes were passed over."""
    found: list[bytes] = []
    parts: list[bytes] = []
    place = whole = damaged = 0
    while place + HEADER <= len(data):
        left = BLOCK - (offset + place) % BLOCK
        if left < HEADER:  # filled with zeros
            place += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, place)
        body = data[place + HEADER : place + HEADER + length]
        fine = kind in (FULL, FIRST, MIDDLE, LAST) and length <= left - HEADER and len(body) == length
        if not fine or zlib.crc32(body, zlib.crc32(bytes([kind]))) != checksum:
            if at_end and place + left >= len(data):
                break
            damaged += 1
            place = whole = min(place + left, len(data))  # the next block begins anew
            parts = []
            continue
        place += HEADER + length
        if kind in (FULL, FIRST):
            damaged += bool(parts)
            parts = []
        elif not parts:  # its beginning was lost
            continue
        parts.append(body)
        if kind in (FULL, LAST):
            found.append(b"".join(parts))
            parts = []
            whole = place
    return found, whole, damaged
