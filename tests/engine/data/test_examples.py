"""Rows mapped to examples."""

from __future__ import annotations

import pytest

from engine.data.examples import Message, Row, map_row
from engine.data.mapping import guess_columns
from engine.errors import Problem


def row(**values: object) -> Row:
    return Row("7", values, "x.jsonl:7")


def test_formats_join_columns_and_lists_are_joined_with_blank_lines() -> None:
    mappings = {"instruction": "QUESTION", "input": "CONTEXTS", "response": "{decision}. {LONG}", "label": "decision"}
    made = map_row(row(QUESTION="Is it?", CONTEXTS=["One.", "Two."], decision="yes", LONG="Because."), mappings)
    assert made.messages == (Message("user", "Is it?\n\nOne.\n\nTwo."), Message("assistant", "yes. Because."))
    assert (made.input_text, made.label, made.id, made.where) == ("One.\n\nTwo.", "yes", "7", "x.jsonl:7")


def test_input_and_system_may_be_missing_and_other_types_become_text() -> None:
    mappings = {"instruction": "q", "input": "i", "response": "a", "system": "s", "id": "n"}
    made = map_row(row(q="Is it?", a=3, s=None, n=12), mappings)
    assert made.messages == (Message("user", "Is it?"), Message("assistant", "3"))
    assert (made.input_text, made.id) == ("", "12")


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, {"role": "assistant", "content": "Hello"}],
    ],
)
def test_conversations_in_their_usual_forms(turns: list[dict[str, object]]) -> None:
    made = map_row(row(messages=turns), {"messages": "messages"})
    assert made.messages == (Message("user", "Hi"), Message("assistant", "Hello"))


@pytest.mark.parametrize("turns", [None, [], "text", ["x"], [{"role": "usr", "content": "Hi"}]])
def test_what_is_no_conversation_names_its_row(turns: object) -> None:
    with pytest.raises(Problem, match=r"x.jsonl:7"):
        map_row(row(messages=turns), {"messages": "messages"})


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (("instruction", "input", "output"), {"instruction": "instruction", "input": "input", "response": "output"}),
        (("Question", "Answer", "ID"), {"instruction": "Question", "response": "Answer", "id": "ID"}),
        (("id", "conversations"), {"messages": "conversations", "id": "id"}),
        (("input", "output"), {"instruction": "input", "response": "output"}),
    ],
)
def test_columns_are_guessed(columns: tuple[str, ...], wanted: dict[str, str]) -> None:
    assert guess_columns(columns) == wanted


def test_columns_that_cannot_be_guessed_are_listed() -> None:
    with pytest.raises(Problem, match="no columns that look like") as caught:
        guess_columns(("foo", "bar"))
    assert "foo, bar" in caught.value.why
