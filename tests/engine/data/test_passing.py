"""Rows of data that pass a filter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.data.opened import Looked, Opened, look, open_data
from engine.data.passing import fields, passing, values
from engine.filtering import parse
from engine.profile import Data, Model, Profile

ROWS = (
    {"question": "Is it raised?", "answer": "Yes, it is.", "label": "yes", "score": 0.5, "tags": ["a", "b"]},
    {"question": "Is it lowered?", "answer": "No.", "label": "no", "score": 2, "meta": {"by": "Ann"}, "row": 7},
    {"question": "Is it raised?", "answer": "Yes, it is.", "label": "yes"},
)


@pytest.fixture
def data(tmp_path: Path) -> tuple[Opened, Looked]:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)) + '\n{"question": \n')
    opened = open_data(str(path))
    return opened, look(opened, lambda done, total: None, lambda: False)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [0, 1, 2, 3]),
        ("RAISED", [0, 2]),
        ("row>1", [1, 2, 3]),
        ("row>1 row<=3 answer~it", [2]),
        ("answer=No.", [1]),
        ("score>=.5", [0, 1]),
        ("score=2", [1]),
        ("tags=b", [0]),
        ("meta~ann", [1]),
        ("column.label=yes", [0, 2]),
        ("column.row=7", [1]),
        ('score=""', [2, 3]),
        ("finding=exact", [2]),
        ("finding=broken_row,exact_duplicates", [2, 3]),
        ("characters>20", [0, 2]),
    ],
)
def test_rows_pass_by_what_stands_in_them(data: tuple[Opened, Looked], text: str, found: list[int]) -> None:
    opened, looked = data
    only = parse(text, fields(opened, looked))
    assert not only.mistakes
    assert passing(opened, looked, only, range(len(opened))) == found


def test_before_it_was_looked_there_are_no_findings_and_no_lengths(data: tuple[Opened, Looked], tmp_path: Path) -> None:
    opened = open_data(str(tmp_path / "rows.jsonl"))
    known = {field.name for field in fields(opened, None)}
    assert "finding" not in known and {"raw", "row", "characters", "label", "answer"} <= known
    assert passing(opened, None, parse("characters>0", fields(opened, None)), range(4)) == []


def test_looking_can_be_stopped_and_says_how_far_it_is(data: tuple[Opened, Looked]) -> None:
    opened, looked = data
    told: list[tuple[int, int]] = []
    only = parse("raised", fields(opened, looked))
    assert passing(opened, looked, only, [0, 1], lambda done, total: told.append((done, total))) == [0]
    assert told == [(0, 2)]
    assert passing(opened, looked, only, [0, 1], stopped=lambda: True) is None


def test_labels_that_occur_are_offered(tmp_path: Path) -> None:
    path = tmp_path / "labelled.jsonl"
    said = ["no", *["yes"] * 3, "maybe", "maybe"]
    rows = ({"question": f"{number}?", "answer": label, "label": label} for number, label in enumerate(said))
    path.write_text("\n".join(map(json.dumps, rows)))
    columns = {"instruction": "question", "response": "answer", "label": "label"}
    settings = Profile(model=Model(base="none"), data=(Data(source=str(path), columns=columns),))
    looked = look(open_data(str(path), settings), lambda done, total: None, lambda: False)
    assert values(looked, "label") == ("yes", "maybe", "no")
    assert values(looked, "answer") == () and values(None, "label") == ()
