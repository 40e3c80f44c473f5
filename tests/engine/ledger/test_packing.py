"""A key's summary: counted on from what stands, batch by batch, it is that of all points."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ledger.packing import REMEMBERED, Totals

VALUES = st.lists(st.one_of(st.sampled_from([math.nan, math.inf, -math.inf, 1.0, 2.0]), st.floats(-1e3, 1e3)))


def in_portions(values: list[float], size: int) -> Totals:
    found = Totals()
    for start in range(0, len(values), size):
        some = values[start : start + size]
        found = found.followed_by(range(start, start + len(some)), some)
    return found


@given(VALUES, st.integers(1, 9))
def test_in_whatever_portions_points_come_their_summary_is_the_same(values: list[float], size: int) -> None:
    found, at_once = in_portions(values, size), in_portions(values, len(values) + 1)
    assert found[:-1] == at_once[:-1]
    assert found.smoothed == pytest.approx(at_once.smoothed, rel=1e-9, abs=1e-9)


def test_of_thousands_of_points_at_once_only_those_that_weigh_something_are_averaged() -> None:
    values = np.random.default_rng(1).normal(5, 1, 3 * REMEMBERED).tolist()
    assert in_portions(values, len(values)).smoothed == pytest.approx(in_portions(values, 1).smoothed, rel=1e-12)
