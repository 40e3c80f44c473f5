"""Whole numbers in few bytes: the first one, then the differences in the smallest width that holds them all.

Steps and sequence numbers rise evenly (no bytes a number), times nearly so (two). Differences are taken modulo 2**64, so any int64
comes back exactly, however far two neighbours lie apart.

A byte with the width of a difference (0, 1, 2, 4 or 8), the first number in 8, then for width 0 the one difference in 8, else each
in that width; everything little-endian and signed.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

WIDTHS: Final = (1, 2, 4, 8)


def pack(numbers: NDArray[np.int64]) -> bytes:
    """The numbers as bytes; none as no bytes."""
    if not len(numbers):
        return b""
    differences = np.diff(numbers)
    low, high = (int(differences.min()), int(differences.max())) if len(differences) else (0, 0)
    if low == high:
        return struct.pack("<Bqq", 0, int(numbers[0]), low)
    width = next(width for width in WIDTHS if -(1 << 8 * width - 1) <= low and high < 1 << 8 * width - 1)
    return struct.pack("<Bq", width, int(numbers[0])) + differences.astype(f"<i{width}").tobytes()


def unpack(packed: bytes, n: int) -> NDArray[np.int64]:
    """The `n` numbers again.

    Raises:
        ValueError: these are not the bytes of `n` numbers.
    """
    if not n and not packed:
        return np.empty(0, np.int64)
    width = packed[0] if packed else -1
    if n < 1 or width not in (0, *WIDTHS) or len(packed) != 9 + (8 if width == 0 else width * (n - 1)):
        raise ValueError(f"{len(packed)} bytes that begin with {width} do not hold {n} numbers")
    first = np.frombuffer(packed, "<i8", 1, 1)
    if width == 0:
        return first + np.frombuffer(packed, "<i8", 1, 9) * np.arange(n)
    numbers = np.empty(n, np.int64)
    numbers[0] = first[0]
    numbers[1:] = np.frombuffer(packed, f"<i{width}", -1, 9)
    return np.cumsum(numbers, out=numbers)
