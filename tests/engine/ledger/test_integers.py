"""Packed whole numbers: every int64 comes back, and the usual ones take little room."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.ledger import integers

EDGES = [0, 1, -1, 127, 128, -128, -129, 2**15, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63)]
NUMBERS = st.lists(
    st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(0, 300), st.sampled_from(EDGES)), max_size=60
)


@given(NUMBERS)
def test_every_int64_comes_back(numbers: list[int]) -> None:
    array = np.array(numbers, np.int64)
    assert integers.unpack(integers.pack(array), len(array)).tolist() == numbers


@pytest.mark.parametrize(
    ("numbers", "bytes_each"),
    [
        (np.arange(5, 5 + 40_960, 10), 0),  # steps logged every tenth
        (1_700_000_000_000 + np.cumsum(np.random.default_rng(1).integers(5, 100, 4096)), 1),  # ms between quick steps
        (1_700_000_000_000 + np.cumsum(np.random.default_rng(1).integers(900, 9000, 4096)), 2),
        (np.random.default_rng(1).integers(-(2**62), 2**62, 4096), 8),
    ],
)
def test_the_smallest_width_is_taken(numbers: NDArray[np.int64], bytes_each: int) -> None:
    assert len(integers.pack(numbers)) <= 17 + bytes_each * len(numbers)


@given(NUMBERS, st.integers(0, 70), st.integers(0, 80))
def test_bytes_that_were_cut_or_counted_wrong_are_refused_or_whole(numbers: list[int], n: int, end: int) -> None:
    whole = integers.pack(np.array(numbers, np.int64))
    cut = whole[:end]
    if cut == whole and n == len(numbers):
        return
    try:
        found = integers.unpack(cut, n)
    except ValueError:
        return
    assert len(found) == n  # an even row may be counted out to any length, or two numbers read for one
