"""A curve in few columns keeps every extreme and counts every gap."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ledger.metrics import Curve
from engine.ledger.thinning import thinned, thinned_by

VALUES = st.lists(st.one_of(st.floats(-1e300, 1e300), st.sampled_from([math.nan, math.inf, -math.inf])), max_size=50)


@given(VALUES, st.integers(1, 30), st.randoms(use_true_random=False))
def test_each_column_has_the_extremes_of_its_points_and_the_count_of_its_gaps(
    values: list[float], columns: int, draw: Random
) -> None:
    places = [draw.randint(0, 40) for _ in values]
    found = thinned_by(np.array(places, np.int64), np.array(values, np.float64), columns)
    inside: dict[int, list[float]] = {}
    for place, value in zip(places, values, strict=True):
        column = (place - min(places)) * columns // ((max(places) - min(places)) or 1)
        inside.setdefault(min(columns - 1, column), []).append(value)
    assert len(found.low) == len(found.high) == columns
    assert int(found.points.sum()) == len(values)
    for column in range(columns):
        finite = [value for value in inside.get(column, []) if math.isfinite(value)]
        assert found.points[column] == len(inside.get(column, []))
        assert found.gaps[column] == found.points[column] - len(finite)
        np.testing.assert_equal(found.low[column], min(finite, default=math.nan))
        np.testing.assert_equal(found.high[column], max(finite, default=math.nan))


def test_every_one_of_fifty_spikes_among_100_000_steps_is_in_the_picture() -> None:
    values = np.random.default_rng(3).normal(1, 0.1, 100_000)
    spikes = np.random.default_rng(4).choice(100_000, 50, replace=False)
    values[spikes] = 100 + np.arange(50)
    values[[7, 8, 50_000]] = math.nan, math.inf, -math.inf
    curve = Curve(np.arange(100_000), values, np.zeros(100_000), 0)
    found = thinned(curve, 2000)
    drawn = set(found.high.tolist())
    by_column = {int(step // 50): max(values[step // 50 * 50 : step // 50 * 50 + 50]) for step in spikes}
    assert set(by_column.values()) <= drawn
    assert (int(found.gaps.sum()), found.gaps[0], found.gaps[1000]) == (3, 2, 1)


def test_a_span_leaves_out_what_lies_beyond_it_and_empty_columns_say_so() -> None:
    found = thinned_by(np.array([0.0, 1, 2, math.nan, 9]), np.array([5.0, 6, 7, 8, 9]), 4, (1, 5))
    assert found.points.tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(found.high, [6, 7, math.nan, math.nan])
    nothing = thinned_by(np.empty(0, np.int64), np.empty(0), 3)
    assert nothing.points.tolist() == [0, 0, 0]
    assert np.isnan(nothing.low).all()
    with pytest.raises(ValueError, match="at least one column"):
        thinned_by(np.empty(0, np.int64), np.empty(0), 0)
