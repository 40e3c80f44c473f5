"""What a mistyped word may have meant."""

from __future__ import annotations

import pytest

from engine.errors import nearest


@pytest.mark.parametrize(
    ("typed", "meant"), [("bset", "best"), ("subest", "subset"), ("laod", "load"), ("rnk", "rank"), ("xyz", "")]
)
def test_letters_change_places_but_seldom_the_first(typed: str, meant: str) -> None:
    assert nearest(typed, ["subset", "beta", "best", "load", "rank", "lead"]) == meant
