"""Protocol Buffers as they lie on the wire: enough to pick a few fields out of a message without its schema's library.

Format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

Field = int | bytes
"""A varint as an unsigned 64-bit number; all else as its bytes."""
VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5


def fields(message: bytes) -> Iterator[tuple[int, Field]]:
    """Numbers and values of a message's fields, in its order; a repeated field comes again.

    Raises:
        ValueError: it is not a message, or is cut off.
    """
    place, end = 0, len(message)
    while place < end:
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == BYTES:
            size, place = _varint(message, place)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {place}")
        if place + size > end:
            raise ValueError(f"field {number} is cut off")
        yield number, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """The number at `place`, seven bits a byte from the lowest, and where the next thing begins."""
    number = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        number |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, place
        shift += 7
    raise ValueError(f"a number is cut off at byte {place}")


def signed(value: Field) -> int:
    """A varint that stands for an int64 or int32.

    Raises:
        ValueError: it is no varint.
    """
    if isinstance(value, bytes):
        raise ValueError("not a whole number")
    return value - (1 << 64) if value >> 63 else value


def floating(value: Field) -> float:
    """A float or a double, by how many bytes it has.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, bytes) and len(value) in (4, 8):
        (number,) = struct.unpack("<f" if len(value) == 4 else "<d", value)
        return float(number)
    raise ValueError("not a floating-point number")


def text(value: Field) -> str:
    """A string; what is not UTF-8 in it is replaced.

    Raises:
        ValueError: it is a number.
    """
    return inside(value).decode(errors="replace")


def inside(value: Field) -> bytes:
    """A message within the message.

    Raises:
        ValueError: it is a number.
    """
    if isinstance(value, bytes):
        return value
    raise ValueError("a number stands where a message belongs")


def time(value: Field) -> float:
    """A google.protobuf.Timestamp in seconds since the epoch."""
    found = dict(fields(inside(value)))
    return signed(found.get(1, 0)) + signed(found.get(2, 0)) / 1e9
