"""Parts never share a row or a question, hold everything, and depend on seed and content alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.split import read_test_ids, split_rows
from engine.errors import Problem
from engine.profile import Split

ROWS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from("ab")), max_size=120)
SHARE = st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.9])


@given(rows=ROWS, test=SHARE, validation=SHARE, seed=st.integers(0, 3))
@settings(deadline=None)
def test_disjoint_complete_deterministic_and_no_question_on_two_sides(
    rows: list[tuple[int, str]], test: float, validation: float, seed: int
) -> None:
    questions = [f"q{number}" for number, _ in rows]
    strata = [stratum for _, stratum in rows]
    wanted = Split(test=test, validation=validation, seed=seed)
    parts = split_rows(questions, strata, wanted)
    everything = [*parts.train, *parts.validation, *parts.test, *parts.twins]
    assert sorted(everything) == list(range(len(rows)))
    assert not parts.twins
    sides = [{questions[row] for row in part} for part in (parts.train, parts.validation, parts.test)]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert split_rows(questions, strata, wanted) == parts


@given(order=st.permutations(range(40)))
@settings(deadline=None, max_examples=30)
def test_a_row_stays_in_its_part_wherever_it_stands(order: list[int]) -> None:
    questions = [f"q{number}" for number in range(40)]
    wanted = Split(test=0.25, validation=0.25)
    straight = split_rows(questions, [""] * 40, wanted)
    shuffled = split_rows([questions[row] for row in order], [""] * 40, wanted)
    assert {questions[row] for row in straight.test} == {questions[order[row]] for row in shuffled.test}


def test_shares_are_exact_and_stratified() -> None:
    questions = [f"q{number}" for number in range(1000)]
    strata = ["yes"] * 552 + ["no"] * 338 + ["maybe"] * 110
    parts = split_rows(questions, strata, Split(test=0.5, validation=0.1))
    assert (len(parts.test), len(parts.validation), len(parts.train)) == (500, 50, 450)
    assert Counter(strata[row] for row in parts.test) == {"yes": 276, "no": 169, "maybe": 55}


def test_another_seed_is_another_split() -> None:
    questions = [f"q{number}" for number in range(100)]
    one, other = (split_rows(questions, [""] * 100, Split(test=0.2, seed=seed)) for seed in (1, 2))
    assert one.test != other.test


def test_twins_of_a_given_test_set_leave_training() -> None:
    parts = split_rows(["a", "b", "a", "c"], [""] * 4, Split(validation=0), frozenset({0}))
    assert (parts.test, parts.twins, parts.train) == ((0,), (2,), (1, 3))


def test_a_single_question_is_not_split() -> None:
    parts = split_rows(["a", "a"], ["", ""], Split(validation=0.5))
    assert (parts.train, parts.validation) == ((0, 1), ())


@pytest.mark.parametrize(
    ("name", "content"), [("ids.json", '["1", 2]'), ("ids.json", '{"1": "yes", "2": "no"}'), ("ids.txt", "1\n\n2\n")]
)
def test_forms_of_test_ids(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert read_test_ids(tmp_path / name) == ("1", "2")


@pytest.mark.parametrize("content", ["[", "[]", "3", json.dumps([{"id": 1}])])
def test_files_without_ids(content: str, tmp_path: Path) -> None:
    (tmp_path / "ids.json").write_text(content)
    with pytest.raises(Problem, match=r"ids\.json"):
        read_test_ids(tmp_path / "ids.json")
