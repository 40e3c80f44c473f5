"""Rows with tools: read in their usual forms, rendered as transformers renders them, the call supervised and the tool's answer not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine import profile
from engine.data.examples import Example, Message, Row, map_row
from engine.data.pieces import pieces
from engine.data.render import Renderer
from engine.data.tokenizer import load_tokenizer
from engine.errors import Problem
from tests.engine.data import templates
from tests.engine.data.conftest import MakeTokenizer, write_tokenizer
from tests.engine.data.test_samples import EOS, supervised

TOOL = {
    "type": "function",
    "function": {
        "name": "jitter",
        "description": "Measures jitter; <b> & 'quotes' stay.",
        "parameters": {"type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"]},
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "jitter", "arguments": {"file": "é.wav", "n": 3}}}
TURNS: list[dict[str, object]] = [
    {"role": "user", "content": "Is it raised?"},
    {"role": "assistant", "content": "", "reasoning_content": "Measure.", "tool_calls": [CALL]},
    {"role": "tool", "content": '{"percent": 1.5}', "tool_call_id": "c1", "name": "jitter"},
    {"role": "assistant", "content": "Yes."},
]
MAPPINGS = {"messages": "messages", "tools": "tools"}


def mapped(turns: object = TURNS, tools: object = None) -> Example:
    return map_row(Row("7", {"messages": turns, "tools": [TOOL] if tools is None else tools}, "x:7"), MAPPINGS)


@pytest.mark.parametrize("name", templates.TOOLS)
def test_rendered_as_apply_chat_template_with_tools(name: str, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = write_tokenizer(tmp_path / "base", templates.TOOLS[name], eos=EOS.get(name, "<|im_end|>"))
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = Renderer(load_tokenizer(str(folder)), profile.Template())
    example = mapped()
    for count in range(1, len(TURNS) + 1):
        for tools in ([TOOL], None):
            wanted = theirs.apply_chat_template(TURNS[:count], tools=tools, tokenize=False)
            assert ours.text(example.messages[:count], generation=False, tools=tools or ()) == wanted
            asked = theirs.apply_chat_template(
                TURNS[:count], tools=tools, add_generation_prompt=True, return_dict=False
            )
            assert ours.prompt(example.messages[:count], tools or ()) == asked


def test_a_template_of_its_own_for_tools_is_taken_where_there_are_tools(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    folder = write_tokenizer(tmp_path / "base", None)
    several = [
        {"name": "default", "template": templates.CHATML},
        {"name": "tool_use", "template": templates.HERMES},
    ]
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": several}))
    theirs = PreTrainedTokenizerFast.from_pretrained(folder)
    ours = Renderer(load_tokenizer(str(folder)), profile.Template())
    for tools in ([TOOL], None):
        wanted = theirs.apply_chat_template(TURNS[:1], tools=tools, tokenize=False)
        assert ours.text(mapped().messages[:1], generation=False, tools=tools or ()) == wanted


@pytest.mark.parametrize(
    ("name", "called", "answered"),
    [
        ("qwen3", '<tool_call>\n{"name": "jitter", "arguments": {"file": "é.wav", "n": 3}}\n</tool_call>', "Yes."),
        ("hermes", '<tool_call>\n{"name": "jitter", "arguments": {"file": "é.wav", "n": 3}}\n</tool_call>', "Yes."),
        ("llama31", '{"name": "jitter", "parameters": {"file": "é.wav", "n": 3}}<|eot|>', "Yes.<|eot|>"),
        ("gpt_oss", ' to=jitter<|start_header|>{"file": "é.wav", "n": 3}</s>', "Yes.<|eot|>"),
    ],
)
def test_the_call_is_supervised_and_what_the_tool_answered_is_not(
    name: str, called: str, answered: str, make_tokenizer: MakeTokenizer
) -> None:
    tokenizer = make_tokenizer(templates.TOOLS[name], eos=EOS.get(name, "<|im_end|>"))
    samples = Renderer(tokenizer, profile.Template()).samples(mapped())
    together = "".join(supervised(rendered, tokenizer) for rendered in samples)
    assert together.count(called) == 1
    assert together.count(answered) == 1
    assert "1.5" not in together
    assert "description" not in together
    assert "tools_ignored" not in samples[0].notes
    assert not any(rendered.dropped for rendered in samples)
    for rendered in samples:
        assert "".join(piece.text for piece in pieces(rendered, tokenizer)) == rendered.text


def test_an_answer_that_changes_how_its_history_is_written_is_learned_as_it_is_asked_for(
    make_tokenizer: MakeTokenizer,
) -> None:
    """Thinking before a call goes once the answer stands, but while the answer is asked for it is still there."""
    tokenizer = make_tokenizer(templates.GPT_OSS, eos="<|eot|>")
    renderer = Renderer(tokenizer, profile.Template())
    example = mapped()
    assert "Measure." not in renderer.text(example.messages, generation=False, tools=example.tools)
    (rendered,) = renderer.samples(example)
    prompt = renderer.prompt(example.messages[:3], example.tools)
    assert rendered.ids[: len(prompt)] == prompt
    assert tokenizer.decode(rendered.ids[len(prompt) :]) == "<|end_header|>final<|start_header|>Yes.<|eot|>"
    assert all(rendered.supervised[len(prompt) :])
    assert supervised(rendered, tokenizer).count("Measure.") == 1
    assert rendered.notes == ()


def test_a_second_call_that_the_template_drops_is_said(make_tokenizer: MakeTokenizer) -> None:
    twice = {"role": "assistant", "content": "", "tool_calls": [CALL, {**CALL, "id": "c2"}]}
    (rendered,) = Renderer(make_tokenizer(templates.GPT_OSS, eos="<|eot|>"), profile.Template()).samples(
        mapped([TURNS[0], twice])
    )
    assert rendered.dropped == "tool call not written"
    (whole,) = Renderer(make_tokenizer(templates.QWEN3), profile.Template()).samples(mapped([TURNS[0], twice]))
    assert whole.dropped == ""


FORMS: dict[str, list[dict[str, object]]] = {
    "arguments as JSON text": [
        {"role": "user", "content": "Is it raised?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "jitter", "arguments": '{"file": "é.wav", "n": 3}'}}],
        },
        {"role": "tool", "content": "1.5"},
    ],
    "all calls as JSON text": [
        {"role": "user", "content": "Is it raised?"},
        {"role": "assistant", "content": "", "tool_calls": json.dumps([CALL["function"]])},
        {"role": "tool", "content": "1.5", "tool_calls": None},
    ],
    "function_call": [
        {"role": "user", "content": "Is it raised?"},
        {"role": "assistant", "content": None, "function_call": CALL["function"]},
        {"role": "function", "content": "1.5"},
    ],
    "ShareGPT": [
        {"from": "human", "value": "Is it raised?"},
        {"from": "function_call", "value": json.dumps(CALL["function"])},
        {"from": "observation", "value": "1.5"},
    ],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("as_text", [False, True])
def test_calls_in_their_usual_forms(form: str, as_text: bool) -> None:
    made = mapped(json.dumps(FORMS[form]) if as_text else FORMS[form], json.dumps([TOOL]) if as_text else [TOOL])
    call = {"type": "function", "function": CALL["function"]}
    assert made.messages == (
        Message("user", "Is it raised?"),
        Message("assistant", "", (call,)),
        Message("tool", "1.5"),
    )
    assert made.tools == (TOOL,)


@pytest.mark.parametrize("tools", ["no JSON", 3, ["name"], {"name": "jitter"}])
def test_tools_that_are_none_name_their_row(tools: object) -> None:
    with pytest.raises(Problem, match=r"^x:7: there is no list of tools"):
        mapped(tools=tools)


def test_a_call_that_cannot_be_read_names_its_row() -> None:
    with pytest.raises(Problem, match=r"^x:7: a tool call cannot be read"):
        mapped([{"role": "assistant", "content": "", "tool_calls": [{"arguments": "{}"}]}])


def test_a_bare_function_schema_is_wrapped_and_no_tools_are_none() -> None:
    assert mapped(tools=[TOOL["function"]]).tools == (TOOL,)
    assert mapped(tools="[]").tools == mapped(tools="").tools == ()


def test_a_template_that_ignores_tools_is_said(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(templates.CHATML), profile.Template())
    plain = replace(mapped([TURNS[0], TURNS[3]]))
    (rendered,) = renderer.samples(plain)
    assert rendered.notes == ("tools_ignored",)
    assert renderer.samples(replace(plain, tools=()))[0].notes == ()
    (dropped,) = renderer.samples(mapped())
    assert dropped.dropped == "tool call not written"


def test_answers_of_tools_that_the_template_leaves_out_are_said(make_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(make_tokenizer(None), profile.Template(name="alpaca"))
    turns = [TURNS[0], {"role": "assistant", "content": "Let me see."}, TURNS[2], TURNS[3]]
    assert "tools_ignored" in renderer.samples(mapped(turns, []))[0].notes
