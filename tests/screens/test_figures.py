"""Figures keep their column: whatever the number, they are as short as they say."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from screens.widgets import figures


@given(st.floats(0, 99 * figures.YEAR))
def test_a_span_of_time_has_three_columns_and_a_unit(seconds: float) -> None:
    said = figures.duration(seconds)
    assert len(said) <= 3
    assert said[-1] in "smhdwy"


@given(st.floats(1e-9, 1e99))
def test_a_value_has_six_columns_at_most_also_where_a_loss_explodes(number: float) -> None:
    assert len(figures.value(number)) <= 6


def test_what_is_not_finite_is_not_hidden() -> None:
    assert [figures.value(number) for number in (math.nan, math.inf, -math.inf, None)] == ["NaN", "inf", "-inf", "–"]


def test_spans_are_said_in_the_unit_that_people_would_use() -> None:
    spans = (45, 12 * 60, 3 * 3600, 86_400, 99 * 86_400, 100 * 86_400, 3 * figures.YEAR)
    assert [figures.duration(span) for span in spans] == ["45s", "12m", "3h", "1d", "99d", "14w", "3y"]


def test_a_span_says_once_what_both_ends_have() -> None:
    told = [("2m", "16m"), ("45s", "3m"), ("2.2 s", "6.2 s"), (".03", ".14"), ("4.1k", "5k"), ("1d", "1d"), ("–", "3m")]
    assert [figures.span(low, high) for low, high in told] == [
        "2-16m", "45s-3m", "2.2-6.2 s", ".03-.14", "4.1-5k", "1d", "–-3m",
    ]  # fmt: skip


def test_what_is_not_known_well_has_two_digits() -> None:
    told = [0, 0.0004, 0.0301, 0.135, 2.016, 9.96, 147.2, 4_120, float("nan"), None]
    assert [figures.rough(number) for number in told] == [
        "0", "4e-4", ".03", ".14", "2", "10", "147", "4.1k", "NaN", "–",
    ]  # fmt: skip


def test_a_time_that_is_not_today_says_its_day() -> None:
    now = 1_773_320_700.0  # Thu 12 March 2026, 13:05 UTC
    told = [figures.clock_with_seconds(now - ago, now) for ago in (60, figures.DAY, 30 * figures.DAY)]
    assert told == ["13:04:00", "Wed 13:05", "10 Feb"]


def test_sizes_of_models_are_said_as_people_say_them() -> None:
    told = [figures.parameters(count) for count in (230_000, 135_000_000, 999_885_952, 8_030_261_248, None)]
    assert told == ["0.2M", "135M", "1.0B", "8.0B", "–"]
