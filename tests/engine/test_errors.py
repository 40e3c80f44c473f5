"""What a mistyped word may have meant."""

from __future__ import annotations

import pytest

from engine.errors import nearest


@pytest.mark.parametrize(
    ("typed", "meant"), [("bset", "best"), ("subest", "subset"), ("laod", "load"), ("rnk", "rank"), ("xyz", "")]
)
def test_the_first_letter_is_seldom_the_wrong_one(typed: str, meant: str) -> None:
    assert nearest(typed, ["subset", "best", "load", "rank", "lead"]) == meant
