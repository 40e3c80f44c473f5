"""Advice: every value has some, none is about what there is not, and what is unusual follows from the other values."""

from __future__ import annotations

import tomllib
from collections.abc import Callable

import pytest

from engine import advice
from engine.explaining import explained
from engine.places import shipped
from engine.profile_fields import sections

FIELDS = {advice.NUMBERED.sub("data", field.key): field for section in sections({}) for field in section.fields}


def standing(**others: object) -> Callable[[str], object]:
    """The defaults, and other values by dotted keys with two underscores for the point."""
    given = {key.replace("__", "."): value for key, value in others.items()}
    return lambda key: given.get(key, FIELDS[key].default if key in FIELDS else None)


def test_every_value_of_a_profile_is_explained_and_nothing_else_is() -> None:
    told = set(tomllib.loads((shipped() / "advice.toml").read_text())) - {"rows"}
    assert told == set(FIELDS)
    for key in told:
        found = advice.about(key)
        assert found and len(found.why) > 30
        assert all(each.says and each.source for each in found.literature)


def test_conditions_are_on_values_that_there_are() -> None:
    for key in FIELDS:
        found = advice.about(key)
        assert found is not None
        for usual in found.usual:
            assert usual.low < usual.high and usual.says
            for other, wanted in usual.when:
                assert set(wanted) <= set(FIELDS[other].choices), (key, other)
            assert not usual.per or usual.per in FIELDS


def test_what_is_set_by_default_is_usual() -> None:
    assert [key for key in FIELDS if advice.unusual(key, standing())] == []


@pytest.mark.parametrize(
    ("key", "others", "says"),
    [
        (
            "training.learning_rate",
            {"training__learning_rate": 2e-4, "method__name": "full"},
            "high: usual full 1e-5",
        ),
        (
            "training.learning_rate",
            {"training__learning_rate": 2e-4, "training__objective": "dpo"},
            "high: usual lora dpo",
        ),
        ("training.learning_rate", {"training__learning_rate": 1e-6}, "low"),
        ("training.learning_rate", {"training__learning_rate": "fast"}, ""),
        ("method.alpha", {"method__rank": 256}, "low: usual 2 x rank"),
        ("method.alpha", {"method__rank": 64}, ""),
        ("training.beta", {"training__objective": "dpo", "training__length_normalised": True}, "low: usual about 5"),
        ("training.beta", {"training__objective": "sft"}, ""),
        ("split.test", {"split__test": 0}, ""),
        ("data.3.weight", {}, ""),
    ],
)
def test_what_is_unusual_depends_on_the_other_values(key: str, others: dict[str, object], says: str) -> None:
    found = advice.unusual(key, standing(**others))
    assert found.startswith(says) and bool(found) == bool(says)


def test_few_rows_are_said_to_be_few_and_that_it_is_a_heuristic() -> None:
    assert advice.row_notes("sft", 1_000, 4_000_000_000) == []
    assert advice.row_notes("dpo", 10, 4_000_000_000) == advice.row_notes("sft", 10, None) == []
    (said,) = advice.row_notes("sft", 450, 4_022_468_096)
    assert said == (
        "450 training rows are few: for less than 10B parameters 1,000 at least, better 2,000 to 10,000 "
        "(a rule of thumb, measured by nobody)"
    )
    assert [advice.rows_for(count).least for count in (5 * 10**8, 10**9, 10**10, 10**12)] == [500, 1_000, 2_000, 2_000]


def test_an_explanation_says_range_default_and_what_is_far_from_usual() -> None:
    told = dict(explained(FIELDS["training.learning_rate"], standing(training__learning_rate=0.01), str))
    assert (told["range"], told["default"]) == ("above 0 to 1", "0.0002")
    assert told["usual"] == "lora 1e-4 to 5e-4; 0.01 is high"
    assert "measured by nobody" in told["quoted"]
    assert dict(explained(FIELDS["method.name"], standing(), str))["one of"].startswith("full, lora")
