"""Conversations of several turns: every response supervised once, and nothing else, whatever the template does with history."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import profile
from engine.data.examples import Example, Message
from engine.data.render import Renderer
from engine.data.rendered import Rendered
from engine.data.tokenizer import ModelTokenizer, load_tokenizer
from engine.errors import Problem
from tests.engine.data import templates
from tests.engine.data.conftest import MakeTokenizer, write_tokenizer

EOS = {"llama31": "<|eot|>", "gpt_oss": "<|eot|>"}
ENDS = {**EOS, "qwen3": "<|im_end|>", "gemma3": "<|im_end|>", "hermes": "<|im_end|>", "thinks": "<|im_end|>"}
_LOADED: dict[str, ModelTokenizer] = {}


def loaded(name: str, factory: pytest.TempPathFactory) -> ModelTokenizer:
    """A tokenizer with the template of that name, made once."""
    if name not in _LOADED:
        template = {**templates.ALL, **templates.FAMILIES}[name]
        folder = write_tokenizer(factory.mktemp("samples") / name, template, eos=EOS.get(name, "<|im_end|>"))
        _LOADED[name] = load_tokenizer(str(folder))
    return _LOADED[name]


def conversation(*turns: str) -> Example:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[place % 2], text) for place, text in enumerate(turns))
    return Example("7", messages, "", None, "rows.jsonl:7")


def supervised(rendered: Rendered, tokenizer: ModelTokenizer) -> str:
    return tokenizer.decode([token for token, counts in zip(rendered.ids, rendered.supervised, strict=True) if counts])


# Stock templates of Llama-3.1, Qwen3, Gemma-3 and gpt-oss have no {% generation %} markers for a mask to be made from.
@pytest.mark.parametrize("name", ["llama31", "qwen3", "gemma3", "gpt_oss"])
def test_assistant_mask_is_neither_all_zero_nor_all_one_with_stock_templates(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = loaded(name, tmp_path_factory)
    assert "generation %}" not in str(tokenizer.chat_template).replace("add_generation", "")
    samples = Renderer(tokenizer, profile.Template()).samples(conversation("Is it?", "One.", "And?", "Two."))
    said = "".join(supervised(rendered, tokenizer) for rendered in samples)
    for answer in ("One.", "Two."):
        assert said.count(answer + ENDS[name]) == 1
    assert "Is it?" not in said
    assert "And?" not in said
    assert all(any(rendered.supervised) and not all(rendered.supervised) for rendered in samples)


WORDS = st.text(alphabet="abcdefgh .,é声", min_size=1, max_size=12).map(str.strip).filter(bool)


@given(data=st.data(), name=st.sampled_from([*templates.FAMILIES, "thinks", "chatml", "headers"]))
@settings(max_examples=80, deadline=None)
def test_every_response_is_supervised_exactly_once_over_the_samples_and_nothing_else(
    data: st.DataObject, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = loaded(name, tmp_path_factory)
    count = data.draw(st.integers(1, 4))
    asked = [f"Q{place} {data.draw(WORDS)}" for place in range(count)]
    said = [f"A{place} {data.draw(WORDS)}" for place in range(count)]
    example = conversation(*(text for pair in zip(asked, said, strict=True) for text in pair))
    renderer = Renderer(tokenizer, profile.Template())
    samples = renderer.samples(example)
    trained = [supervised(rendered, tokenizer) for rendered in samples]
    together = "".join(trained)
    for answer in said:
        assert together.count(answer) == 1
    # Beside the answers only what the model itself has to write: ends of turn, channels, thinking blocks that are empty.
    for answer in said:
        together = together.replace(answer, "", 1)
    for own in ("<|im_end|>", "<|eot|>", "<|end_header|>final<|start_header|>", "<think>\n\n</think>\n\n"):
        together = together.replace(own, "")
    assert together == ""
    for rendered in samples:  # and each response is what the model is asked for at that moment
        place = next(n for n in reversed(range(count)) if said[n] in supervised(rendered, tokenizer))
        prompt = renderer.prompt(example.messages[: 2 * place + 1])
        assert rendered.ids[: len(prompt)] == prompt
        assert rendered.supervised[len(prompt)]


def test_thinking_of_earlier_turns_is_trained_as_the_model_sees_it_then(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tokenizer = loaded("qwen3", tmp_path_factory)
    thought = "<think>\nHm.\n</think>\n\n"
    samples = Renderer(tokenizer, profile.Template()).samples(
        conversation("Is it?", thought + "One.", "And?", thought + "Two.")
    )
    assert [supervised(rendered, tokenizer) for rendered in samples] == [
        f"{thought}One.<|im_end|>",
        f"{thought}Two.<|im_end|>",
    ]
    assert "Hm." not in samples[1].text.split("And?")[0]
    assert [rendered.part for rendered in samples] == ["turn 1 of 2", "turn 2 of 2"]
    assert all("one_sample_a_turn" in rendered.notes for rendered in samples)


def test_a_template_that_keeps_history_gives_one_sample(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(templates.CHATML), profile.Template())
    (rendered,) = renderer.samples(conversation("Is it?", "One.", "And?", "Two."))
    assert supervised(rendered, renderer.tokenizer) == "One.<|im_end|>Two.<|im_end|>"
    assert (rendered.notes, rendered.part) == ((), "")


def test_a_turn_that_is_asked_otherwise_than_it_was_written_is_a_sample_and_said(make_tokenizer: MakeTokenizer) -> None:
    opening = "{% if messages | length == 1 %}<think>{% endif %}"
    template = templates.CHATML.replace("'<|im_start|>assistant\\n' }}", "'<|im_start|>assistant\\n' }}" + opening)
    renderer = Renderer(make_tokenizer(template), profile.Template())
    first, second = renderer.samples(conversation("Is it?", "One.", "And?", "Two."))
    assert "not_prefix" in first.notes
    assert "not_prefix" not in second.notes
    assert supervised(second, renderer.tokenizer) == "Two.<|im_end|>"


def test_loss_on_all_is_one_sample_whatever_the_template_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    renderer = Renderer(loaded("qwen3", tmp_path_factory), profile.Template(), loss_on="all")
    (rendered,) = renderer.samples(conversation("Is it?", "One.", "And?", "Two."))
    assert all(rendered.supervised)


def test_a_conversation_over_the_limit_ends_after_the_last_response_that_fits(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(templates.CHATML)
    example = conversation("Is it?", "One.", "And?", "Two.", "And? " * 50, "Three.")
    (rendered,) = Renderer(tokenizer, profile.Template(), max_tokens=80).samples(example)
    assert supervised(rendered, tokenizer) == "One.<|im_end|>Two.<|im_end|>"
    assert "turns_cut" in rendered.notes
    (dropped,) = Renderer(tokenizer, profile.Template(too_long="drop"), max_tokens=80).samples(example)
    assert dropped.dropped == "too long"


def test_an_empty_response_anywhere_leaves_the_conversation_out(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(templates.CHATML), profile.Template())
    (rendered,) = renderer.samples(conversation("Is it?", " ", "And?", "Two."))
    assert rendered.dropped == "empty response"


def test_a_conversation_that_the_template_refuses_names_its_row(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(templates.GEMMA3), profile.Template())
    twice = Example("7", (Message("user", "a"), Message("assistant", "b"), Message("assistant", "c")), "", None, "x:7")
    with pytest.raises(Problem, match=r"^x:7: .*refuses") as caught:
        renderer.samples(twice)
    assert "alternate" in caught.value.why


# unsloth#416, llm-course#33, trl PR#6357
def test_eos_is_learned_although_pad_equals_eos(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "base", templates.CHATML, eos="<|im_end|>", pad="<|im_end|>")
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer.pad_id == tokenizer.eos_ids[0]
    (rendered,) = Renderer(tokenizer, profile.Template()).samples(conversation("Is it?", "One."))
    assert supervised(rendered, tokenizer).endswith("One.<|im_end|>")


# OpenRLHF#393, unsloth PR#10312
def test_no_double_bos_where_template_and_tokenizer_both_write_one(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(templates.LLAMA31, eos="<|eot|>", add_bos=True)
    (rendered,) = Renderer(tokenizer, profile.Template()).samples(conversation("Is it?", "One."))
    assert tokenizer.tokenizer.encode(rendered.text).ids[:2] == [0, 0]  # as encoding a rendered text usually goes wrong
    assert rendered.ids[0] == 0
    assert rendered.ids.count(0) == 1


# trl PR#6025
@pytest.mark.parametrize("too_long", ["cut_input", "drop"])
def test_cutting_never_leaves_a_row_with_nothing_to_train_on(too_long: str, make_tokenizer: MakeTokenizer) -> None:
    settings_ = profile.Template.model_validate({"too_long": too_long})
    for limit in range(16, 120, 9):
        renderer = Renderer(make_tokenizer(templates.CHATML), settings_, max_tokens=limit)
        for rendered in renderer.samples(conversation("Is it raised? " * 4, "One. " * 4, "And?", "Two.")):
            assert rendered.dropped or (any(rendered.supervised) and len(rendered.ids) <= limit)
