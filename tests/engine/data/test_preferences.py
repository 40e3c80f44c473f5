"""Pairs of responses: one prompt, never supervised, and after it what was chosen and what was rejected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import profile
from engine.data.examples import Example, Message, Row, map_row
from engine.data.prepare import load, prepare
from engine.data.render import Renderer
from engine.data.tokenizer import ModelTokenizer, load_tokenizer
from engine.errors import Problem
from engine.evaluate.suites import read_suite
from engine.profile import Profile
from tests.engine.data import templates
from tests.engine.data.conftest import MakeTokenizer, write_tokenizer
from tests.engine.data.test_samples import supervised
from tests.tiny import tiny_profile

TEXTS = {"instruction": "q", "input": "i", "chosen": "c", "rejected": "r"}
LISTS = {"chosen": "c", "rejected": "r"}
_LOADED: list[ModelTokenizer] = []


def pair(question: str = "Is it?", given_input: str = "", chosen: str = "Yes.", rejected: str = "No.") -> Example:
    return map_row(Row("7", {"q": question, "i": given_input, "c": chosen, "r": rejected}, "x:7"), TEXTS)


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user" if place % 2 == 0 else "assistant", "content": text} for place, text in enumerate(texts)]


@pytest.mark.parametrize("name", ["chatml", "thinks", "qwen3", "gpt_oss"])
def test_the_prompt_is_the_same_and_not_supervised_the_responses_are(name: str, make_tokenizer: MakeTokenizer) -> None:
    template = {**templates.ALL, **templates.FAMILIES}[name]
    renderer = Renderer(make_tokenizer(template), profile.Template(system="Be brief."))
    chosen, rejected = renderer.samples(pair())
    start = chosen.supervised.index(True)
    assert rejected.supervised.index(True) == start
    assert chosen.ids[:start] == rejected.ids[:start] == renderer.prompt([Message("user", "Is it?")])
    assert "Yes." in supervised(chosen, renderer.tokenizer)
    assert "No." in supervised(rejected, renderer.tokenizer)
    assert chosen.supervised[start:].count(False) <= 1  # the line end after the end of turn
    assert (chosen.part, rejected.part) == ("chosen", "rejected")


FORMS: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "texts": ({"q": "Is it?", "c": "Yes.", "r": "No."}, {"instruction": "q", **LISTS}),
    "whole conversations": ({"c": turns("Is it?", "Yes."), "r": turns("Is it?", "No.")}, LISTS),
    "whole conversations beside their prompt": (
        {"q": "Is it?", "c": turns("Is it?", "Yes."), "r": turns("Is it?", "No.")},
        {"instruction": "q", **LISTS},
    ),
    "completions": (
        {"q": turns("Is it?"), "c": turns("", "Yes.")[1:], "r": turns("", "No.")[1:]},
        {"instruction": "q", **LISTS},
    ),
    "completions of a text": (
        {"q": "Is it?", "c": turns("", "Yes.")[1:], "r": turns("", "No.")[1:]},
        {"instruction": "q", **LISTS},
    ),
    "as JSON text": ({"c": json.dumps(turns("Is it?", "Yes.")), "r": json.dumps(turns("Is it?", "No."))}, LISTS),
}


@pytest.mark.parametrize("form", FORMS)
def test_pairs_in_their_usual_forms(form: str) -> None:
    values, mappings = FORMS[form]
    made = map_row(Row("7", values, "x:7"), mappings)
    assert made.messages == (Message("user", "Is it?"), Message("assistant", "Yes."))
    assert (made.rejected, made.shared) == ((Message("assistant", "No."),), 1)


def test_only_the_last_differing_responses_of_long_conversations_are_supervised(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(templates.QWEN3), profile.Template())
    values = {"c": turns("Is it?", "One.", "And?", "Yes."), "r": turns("Is it?", "One.", "And?", "No.")}
    example = map_row(Row("7", values, "x:7"), LISTS)
    assert example.shared == 3
    for rendered, answer in zip(renderer.samples(example), ("Yes.", "No."), strict=True):
        assert supervised(rendered, renderer.tokenizer) == f"<think>\n\n</think>\n\n{answer}<|im_end|>"


def test_several_differing_responses_are_all_supervised(make_tokenizer: MakeTokenizer) -> None:
    values = {"c": turns("Is it?", "Yes.", "Why?", "So."), "r": turns("Is it?", "No.", "Why?", "Not so.")}
    example = map_row(Row("7", values, "x:7"), LISTS)
    renderer = Renderer(make_tokenizer(templates.CHATML), profile.Template())
    chosen, rejected = renderer.samples(example)
    assert supervised(chosen, renderer.tokenizer) == "Yes.<|im_end|>So.<|im_end|>"
    assert supervised(rejected, renderer.tokenizer) == "No.<|im_end|>Not so.<|im_end|>"
    rewriting = Renderer(make_tokenizer(templates.QWEN3), profile.Template())
    assert {one.dropped for one in rewriting.samples(example)} == {"responses rewritten"}


@given(words=st.integers(0, 60), chosen=st.integers(1, 20), rejected=st.integers(1, 20), limit=st.integers(30, 150))
@settings(max_examples=50, deadline=None)
def test_both_rows_get_the_same_cut_or_the_pair_is_left_out(
    words: int, chosen: int, rejected: int, limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not _LOADED:
        folder = write_tokenizer(tmp_path_factory.mktemp("pairs") / "base", templates.CHATML)
        _LOADED.append(load_tokenizer(str(folder)))
    example = pair("Is it?", "raised " * words, "Yes. " * chosen, "No. " * rejected + "No.")
    rows = Renderer(_LOADED[0], profile.Template(), max_tokens=limit).samples(example)
    assert len(rows) == 2
    assert len({(one.cut, bool(one.dropped)) for one in rows}) == 1
    if not rows[0].dropped:
        starts = {one.supervised.index(True) for one in rows}
        assert len(starts) == 1
        assert rows[0].ids[: min(starts)] == rows[1].ids[: min(starts)]
        assert max(len(one.ids) for one in rows) <= limit


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [("Yes.", "Yes.", "identical responses"), ("Yes.", " ", "empty response"), ("", "No.", "empty response")],
)
def test_pairs_that_teach_nothing_are_left_out(
    chosen: str, rejected: str, reason: str, make_tokenizer: MakeTokenizer
) -> None:
    renderer = Renderer(make_tokenizer(templates.CHATML), profile.Template())
    assert [one.dropped for one in renderer.samples(pair(chosen=chosen, rejected=rejected))] == [reason] * 2


def test_pairs_that_answer_different_questions_name_their_row() -> None:
    values = {"c": turns("Is it?", "Yes."), "r": turns("Is it not?", "No.")}
    with pytest.raises(Problem, match=r"^x:7: chosen and rejected do not answer the same"):
        map_row(Row("7", values, "x:7"), LISTS)
    with pytest.raises(Problem, match=r"^x:7: chosen answers nothing"):
        map_row(Row("7", {"c": "Yes.", "r": "No."}, "x:7"), LISTS)


def prepared_pairs(base: Path, folder: Path, **more: object) -> Profile:
    rows = [
        {
            "question": f"Is recording {number} raised?",
            "context": "pitch " * (number % 7),
            "chosen": f"Yes, by {number} percent.",
            "rejected": "No." if number != 5 else f"Yes, by {number} percent.",
        }
        for number in range(40)
    ]
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = tiny_profile(base, data, **{"training.objective": "dpo", **more})
    return made.model_copy(update={"data": (made.data[0].model_copy(update={"columns": {}}),)})


@pytest.mark.parametrize("objective", ["dpo", "orpo"])
def test_prepared_as_two_rows_an_example(objective: str, tiny_base: Path, tmp_path: Path) -> None:
    more: dict[str, object] = {"training.objective": objective, "training.loss_on": "all", "split.test": 0.25}
    settings_ = prepared_pairs(tiny_base, tmp_path, **more)
    made = prepare(settings_, tmp_path / "run")
    for tokens in (made.train, made.validation, load(tmp_path / "run").train):
        assert tokens.per_example == 2
        assert len(tokens) == 2 * tokens.examples > 0
        for example in range(tokens.examples):
            chosen, rejected = (
                tokens.ids[tokens.starts[row] : tokens.starts[row + 1]] for row in (2 * example, 2 * example + 1)
            )
            assert tokens.row_ids[2 * example] == tokens.row_ids[2 * example + 1]
            start = int(tokens.supervised[tokens.starts[2 * example] :].argmax())
            assert start > 0
            assert np.array_equal(chosen[:start], rejected[:start])
            assert not np.array_equal(chosen, rejected)
    kept = {*made.train.row_ids, *made.validation.row_ids}
    items = read_suite(tmp_path / "run" / "suites" / "test.jsonl").items
    assert len(items) == made.test_rows == 10
    assert all(item.answer[0].startswith("Yes, by") and item.prompt.startswith("Is recording") for item in items)
    identical = [finding.count for finding in made.findings if finding.id == "identical_responses"]
    assert identical == ([1] if "pairs.jsonl:6" not in {item.row for item in items} else [])
    assert len(kept) == 30 - sum(identical)
