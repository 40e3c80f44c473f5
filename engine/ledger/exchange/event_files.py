"""TensorBoard's event files as records: lengths and bytes with checksums, appended to while somebody reads.

A record is its length (8 bytes), a checksum of that, the bytes, a checksum of them
(https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details). The checksum is CRC-32C, rotated and
shifted by a constant. It is computed for all records of one length at once, so that Python is quick enough at it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

CHUNK: Final = 8 * 2**20  # bytes read at a time
LARGEST: Final = 2**16  # bytes of a record that is read: longer ones hold pictures, graphs, tables
AROUND: Final = 16  # bytes that a record has besides its own
POLYNOMIAL: Final = 0x82F63B78  # Castagnoli's, bits reversed


@dataclass(frozen=True)
class Records:
    """What was whole behind an offset: `records`, where the next one begins, how many bytes wait there for their rest.

    `more` says that what is there has not been looked at to its end; `damaged` counts records whose checksum was wrong;
    `broken` says that no record can be found behind `offset`.
    """

    records: list[bytes]
    offset: int
    waiting: int
    more: bool
    damaged: int
    broken: bool


def read(path: Path, offset: int) -> Records:
    """Whole records of the file behind `offset`, as many as lie in `CHUNK` bytes.

    Of the file's last record a wrong checksum is taken for being half written.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        offset = file.seek(offset if offset <= size else 0)  # shorter than it was: another file
        chunk = file.read(min(CHUNK, size - offset))
    places, used, broken = _walk(chunk, offset, size)
    good = _checked(chunk, places)
    if places and not good[-1] and offset + sum(places[-1]) + 4 >= size:
        used = places.pop()[0] - 12
        good.pop()
    found = [chunk[start : start + length] for (start, length), fine in zip(places, good, strict=True) if fine]
    behind = offset + used
    return Records(found, behind, size - behind, bool(used) and behind < size, good.count(False), broken)


def _walk(chunk: bytes, offset: int, size: int) -> tuple[list[tuple[int, int]], int, bool]:
    """Where the chunk's whole records have their bytes, how far that is, and whether there is no record behind it.

    `offset` is the chunk's place in a file of `size` bytes; a large record is passed over.
    """
    places: list[tuple[int, int]] = []
    place = 0
    while place + 12 <= len(chunk):
        header = chunk[place : place + 12]
        length = struct.unpack_from("<Q", header)[0]
        if not _is_header(header):
            return places, place, True
        if offset + place + length + AROUND > size:
            break
        if length > LARGEST:
            return places, place + length + AROUND, False
        if place + length + AROUND > len(chunk):
            break
        places.append((place + 12, length))
        place += length + AROUND
    return places, place, False


@cache
def _is_header(header: bytes) -> bool:
    """Whether a length (8 bytes) has the right checksum (4)."""
    masked = _masked(np.frombuffer(header, np.uint8), np.array([0]), np.array([8]))[0]
    return bool(masked == struct.unpack_from("<I", header, 8)[0])


def _checked(chunk: bytes, places: list[tuple[int, int]]) -> list[bool]:
    """Whether each record's checksum is right."""
    data = np.frombuffer(chunk, np.uint8)
    starts, lengths = np.array(places, np.int64).reshape(-1, 2).T
    told = data[(starts + lengths)[:, None] + np.arange(4)].view("<u4")[:, 0]
    return [bool(each) for each in _masked(data, starts, lengths) == told]


def _table() -> NDArray[np.uint32]:
    """CRC-32C of each byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


TABLE: Final = _table()


def _masked(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint32]:
    """TensorFlow's checksum of each record, (n,): a byte of all of them at a time, the longest to the end."""
    order = np.argsort(-lengths, kind="stable")
    begins, crc = starts[order], np.full(len(starts), 0xFFFFFFFF, np.uint32)
    longer = np.searchsorted(-lengths[order], -np.arange(lengths.max(initial=0)))  # how many have more bytes than that
    for place, n in enumerate(longer):
        crc[:n] = TABLE[(crc[:n] ^ data[begins[:n] + place]) & 0xFF] ^ (crc[:n] >> 8)
    crc ^= np.uint32(0xFFFFFFFF)
    masked = np.empty_like(crc)
    masked[order] = ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)
    return masked
