"""What the model will see: equal to transformers' own rendering, supervised where the response is, within the length limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import profile
from engine.data.examples import Example, Message, Row, map_row
from engine.data.pieces import pieces
from engine.data.render import Renderer
from engine.data.rendered import Rendered
from engine.data.tokenizer import ModelTokenizer, load_tokenizer
from engine.errors import Problem
from tests.engine.data import templates
from tests.engine.data.conftest import MakeTokenizer, write_tokenizer

QUESTION = Message("user", "Is the voice raised?  \nAsk again: naïve café, 声")
ANSWER = Message("assistant", "Yes. The ratio is low.")
MAPPING = {"instruction": "q", "input": "i", "response": "r"}


def example(question: str = "Is it raised?", given_input: str = "", response: str = "Yes.") -> Example:
    return map_row(Row("1", {"q": question, "i": given_input, "r": response}, "rows.jsonl:1"), MAPPING)


def supervised_text(rendered: Rendered, tokenizer: ModelTokenizer) -> str:
    return tokenizer.decode([token for token, counts in zip(rendered.ids, rendered.supervised, strict=True) if counts])


@pytest.mark.parametrize("name", templates.ALL)
def test_equal_to_apply_chat_template(name: str, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = write_tokenizer(tmp_path / "base", templates.ALL[name])
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = Renderer(load_tokenizer(str(folder)), profile.Template())
    system = [] if name == "instruct" else [Message("system", "You are brief.")]
    conversations = [
        [QUESTION],
        [*system, QUESTION, ANSWER, Message("user", "Sure? <b> & 'quotes'")],
        [QUESTION, Message("assistant", "<think>\nHm.\n</think>\n\nNo."), QUESTION],
    ]
    for turns in conversations:
        plain = [{"role": turn.role, "content": turn.content} for turn in turns]
        wanted = theirs.apply_chat_template(plain, add_generation_prompt=True, tokenize=True, return_dict=False)
        assert ours.prompt(turns) == wanted
        whole = [*plain, {"role": "assistant", "content": "No."}]
        text = theirs.apply_chat_template(whole, tokenize=False)
        assert ours.text([*turns, Message("assistant", "No.")], generation=False) == text


def test_equal_when_thinking_is_off(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = write_tokenizer(tmp_path / "base", templates.THINKS)
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = Renderer(load_tokenizer(str(folder)), profile.Template(thinking="empty"))
    turns = [{"role": "user", "content": QUESTION.content}]
    wanted = theirs.apply_chat_template(turns, add_generation_prompt=True, enable_thinking=False, return_dict=False)
    assert ours.prompt([QUESTION]) == wanted


@given(
    question=st.text(min_size=1).filter(str.strip),
    response=st.text(min_size=1).filter(str.strip),
    name=st.sampled_from(["chatml", "headers", "marked"]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_supervised_text_is_the_response(
    question: str, response: str, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = _tokenizer(name, tmp_path_factory)
    rendered = Renderer(tokenizer, profile.Template()).samples(example(question, response=response))[0]
    end = "<|eot|>" if name == "headers" else "<|im_end|>"
    assert supervised_text(rendered, tokenizer) == response.strip() + end
    assert rendered.ids[: rendered.supervised.index(True)] == Renderer(tokenizer, profile.Template()).prompt(
        [Message("user", question.strip())]
    )


_LOADED: dict[str, ModelTokenizer] = {}


def _tokenizer(name: str, tmp_path_factory: pytest.TempPathFactory) -> ModelTokenizer:
    if name not in _LOADED:
        folder = tmp_path_factory.mktemp("mask") / name
        _LOADED[name] = load_tokenizer(str(write_tokenizer(folder, templates.ALL[name])))
    return _LOADED[name]


def test_blanks_after_the_end_of_turn_are_not_supervised(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(templates.CHATML)
    rendered = Renderer(tokenizer, profile.Template()).samples(example())[0]
    assert rendered.text.endswith("<|im_end|>\n")
    assert not rendered.supervised[-1]
    assert supervised_text(rendered, tokenizer) == "Yes.<|im_end|>"


def test_every_response_of_a_conversation_is_supervised(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(templates.CHATML)
    turns = (QUESTION, Message("assistant", "One."), QUESTION, Message("assistant", "Two."))
    rendered = Renderer(tokenizer, profile.Template()).samples(Example("1", turns, "", None, "x:1"))[0]
    assert supervised_text(rendered, tokenizer) == "One.<|im_end|>Two.<|im_end|>"
    assert rendered.notes == ()


# trl#6361, trl#5213
def test_a_prompt_whose_tokens_are_no_prefix_of_the_whole_is_trained_on_as_it_is_asked(
    make_tokenizer: MakeTokenizer,
) -> None:
    """Where a token of the whole would reach over the end of the prompt, the model can never be asked so."""
    glued = "{% for m in messages %}{{ m.content }}{% if m.role == 'user' %} harm{% else %}{{ eos_token }}{% endif %}{% endfor %}"
    tokenizer = make_tokenizer(glued)
    assert len(tokenizer.encode(" harmonics")) < len(tokenizer.encode(" harm")) + len(tokenizer.encode("onics"))
    renderer = Renderer(tokenizer, profile.Template())
    (rendered,) = renderer.samples(example(response="onics"))
    assert rendered.ids[: rendered.supervised.index(True)] == renderer.prompt([Message("user", "Is it raised?")])
    assert supervised_text(rendered, tokenizer) == "onics<|im_end|>"
    assert rendered.notes == ()
    assert "".join(piece.text for piece in pieces(rendered, tokenizer)) == rendered.text


# ms-swift#4939
def test_a_prompt_that_the_template_writes_otherwise_than_the_whole_is_said(make_tokenizer: MakeTokenizer) -> None:
    """Some templates open a thinking block before a response that they never write into a finished conversation."""
    opening = templates.CHATML.replace("assistant\\n' }}{% endif", "assistant\\n<think>\\n' }}{% endif")
    (rendered,) = Renderer(make_tokenizer(opening), profile.Template()).samples(example())
    assert "not_prefix" in rendered.notes
    assert any(rendered.supervised)


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("name", ["alpaca", "plain"])
def test_built_in_templates_for_bases_without_one(name: str, add_bos: bool, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(None, eos="</s>", add_bos=add_bos)
    renderer = Renderer(tokenizer, profile.Template(name=name))
    rendered = renderer.samples(example("Is it raised?", "jitter 1 percent", "Yes.</s>"))[0]
    assert rendered.ids.count(0) == int(add_bos)
    assert rendered.ids.count(1) == 1
    assert rendered.ids[-1] == 1
    assert supervised_text(rendered, tokenizer) == "Yes.</s>"
    assert rendered.ids[: rendered.supervised.index(True)] == renderer.prompt(
        [Message("user", "Is it raised?\n\njitter 1 percent")]
    )


def test_template_without_end_of_turn_gets_an_eos(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", eos="</s>")
    rendered = Renderer(tokenizer, profile.Template()).samples(example())[0]
    assert rendered.ids[-1] == 1
    assert rendered.supervised[-1]
    assert rendered.notes == ("eos_appended",)


def test_end_of_turn_stops_generation_even_when_it_is_not_eos(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(templates.CHATML, eos="</s>")
    assert tokenizer.tokenizer.token_to_id("<|im_end|>") in Renderer(tokenizer, profile.Template()).stop_ids


@given(words=st.integers(0, 400), limit=st.integers(40, 300))
@settings(max_examples=40, deadline=None)
def test_cut_input_keeps_instruction_and_response(
    words: int, limit: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = _tokenizer("chatml", tmp_path_factory)
    renderer = Renderer(tokenizer, profile.Template(), max_tokens=limit)
    made = example("Is it raised?", " ".join(f"jitter{number}" for number in range(words)), "Yes. The ratio is low.")
    rendered = renderer.samples(made)[0]
    assert rendered.dropped == ""
    assert len(rendered.ids) <= limit
    assert "Is it raised?" in rendered.text
    assert supervised_text(rendered, tokenizer) == "Yes. The ratio is low.<|im_end|>"
    assert made.prompt.startswith(renderer.cut_prompt(made, rendered))
    assert (rendered.cut > 0) == (len(Renderer(tokenizer, profile.Template()).samples(made)[0].ids) > limit)
    ids = tokenizer.encode(made.input_text)
    left = tokenizer.tokenizer.decode(ids[: len(ids) - rendered.cut])  # as many tokens fewer as it says, from the end
    assert renderer.cut_prompt(made, rendered) == (made.prompt.removesuffix(made.input_text) + left).rstrip()


def test_too_long_without_an_input_is_dropped_with_its_reason(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(templates.CHATML), profile.Template(), max_tokens=40)
    assert renderer.samples(example("raised " * 200))[0].dropped == "prompt fills the window"
    assert renderer.samples(example(response="normal " * 200))[0].dropped == "response does not fit"


def test_too_long_drop_and_fail(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(templates.CHATML)
    long = example("Is it raised?", "jitter " * 200)
    assert Renderer(tokenizer, profile.Template(too_long="drop"), max_tokens=40).samples(long)[0].dropped == "too long"
    with pytest.raises(Problem, match=r"rows.jsonl:1: .* tokens, 40 allowed"):
        Renderer(tokenizer, profile.Template(too_long="fail"), max_tokens=40).samples(long)[0]


def test_empty_and_missing_responses_are_dropped(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(templates.CHATML), profile.Template())
    assert renderer.samples(example(response=" "))[0].dropped == "empty response"
    assert renderer.samples(Example("1", (QUESTION,), "", None, "x:1"))[0].dropped == "no response"


def test_a_row_whose_labels_are_all_masked_is_dropped_with_its_reason(make_tokenizer: MakeTokenizer) -> None:
    mute = (
        "{% for m in messages %}{{ m.role }}: {{ m.content | replace('.', '') }}{% if m.role == 'user' %}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    renderer = Renderer(make_tokenizer(mute), profile.Template())
    (rendered,) = renderer.samples(example(response="..."))
    assert not any(rendered.supervised) and rendered.dropped == "nothing supervised"
    assert renderer.samples(example())[0].dropped == ""


@pytest.mark.parametrize(
    ("thinking", "template", "wanted"),
    [
        ("keep", templates.CHATML, "<think>\nHm.\n</think>\n\nNo.<|im_end|>"),
        ("strip", templates.CHATML, "No.<|im_end|>"),
        ("empty", templates.CHATML, "<think>\n\n</think>\n\nNo.<|im_end|>"),
        ("keep", templates.THINKS, "<think>\nHm.\n</think>\n\nNo.<|im_end|>"),
        ("empty", templates.THINKS, "No.<|im_end|>"),  # the empty block is part of the prompt
    ],
)
def test_thinking(thinking: str, template: str, wanted: str, make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(template)
    settings = profile.Template.model_validate({"thinking": thinking})
    rendered = Renderer(tokenizer, settings).samples(example(response="<think>\nHm.\n</think>\n\nNo."))[0]
    assert supervised_text(rendered, tokenizer) == wanted
    assert "not_prefix" not in rendered.notes


def test_system_of_the_profile_where_the_row_has_none(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(templates.CHATML), profile.Template(system="Be brief."))
    assert "<|im_start|>system\nBe brief.<|im_end|>" in renderer.samples(example())[0].text
    own = Example("1", (Message("system", "Be long."), QUESTION, ANSWER), "", None, "x:1")
    assert "Be brief." not in renderer.samples(own)[0].text


def test_loss_on_all_counts_every_token(make_tokenizer: MakeTokenizer) -> None:
    rendered = Renderer(make_tokenizer(templates.CHATML), profile.Template(), loss_on="all").samples(example())[0]
    assert all(rendered.supervised)


def test_a_template_cannot_reach_into_python(make_tokenizer: MakeTokenizer) -> None:
    for attack in ("{{ ''.__class__.__mro__ }}", "{{ dict.__call__.__globals__ }}", "{% set x = namespace(_a=1) %}"):
        renderer = Renderer(make_tokenizer(attack), profile.Template())
        try:
            text = renderer.text([QUESTION], generation=True)
        except Problem as problem:
            assert problem.code == "template"
        else:
            assert text.strip() == ""


def test_problems_of_templates_say_what_to_do(make_tokenizer: MakeTokenizer, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(None)
    with pytest.raises(Problem, match="has no chat template") as caught:
        Renderer(tokenizer, profile.Template())
    assert "alpaca" in caught.value.do
    with pytest.raises(Problem, match="did you mean alpaca"):
        Renderer(tokenizer, profile.Template(name="alpacca"))
    broken = tmp_path / "broken.jinja"
    broken.write_text("{% for %}")
    with pytest.raises(Problem, match="is broken"):
        Renderer(tokenizer, profile.Template(name=str(broken)))
    refusing = Renderer(make_tokenizer(templates.INSTRUCT), profile.Template(system="Be brief."))
    with pytest.raises(Problem, match="refuses") as caught:
        refusing.samples(example())[0]
    assert "roles must alternate" in caught.value.why


def test_own_template_file(make_tokenizer: MakeTokenizer, tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text(templates.CHATML)
    rendered = Renderer(make_tokenizer(None), profile.Template(name=str(own))).samples(example())[0]
    assert rendered.text.startswith("<|im_start|>user")


def test_a_profiles_system_message_is_said_in_training_and_in_what_is_asked(make_tokenizer: MakeTokenizer) -> None:
    tokenizer = make_tokenizer(templates.CHATML)
    renderer = Renderer(tokenizer, profile.Template(system="Be brief."))
    made = example("Is it raised?", "1.5 percent", "Yes.")
    rendered = renderer.samples(made)[0]
    asked = renderer.prompt([Message("user", made.prompt)])
    assert "Be brief." in tokenizer.decode(asked)
    assert rendered.ids[: rendered.supervised.index(True)] == asked
