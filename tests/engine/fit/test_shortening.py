"""What is told from a few layers is what all layers do: the engine's own step, simulated both ways."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.fit.allocator import replay
from engine.fit.cuts import Cut, Kind, cuts
from engine.fit.extending import indexed
from engine.fit.question import Answer, Machine, Question, Step
from engine.fit.simulation.answer import answer, stream
from engine.fit.simulation.shortening import shortened
from engine.fit.simulator import Simulator
from engine.fit.stream import Event, Stream

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
LORA = {"name": "lora", "targets": "all-linear", "modules_to_save": [], "rank": 4, "dora": False, "bias": "none"}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}


def asked(kind: str, layers: int, **changes: object) -> Question:
    """One row of a tiny model."""
    return Question(
        {"model_type": kind, **SHAPE, "num_hidden_layers": layers, **changes},
        {"quantization": "none", "dtype": "bfloat16", "attention": "sdpa"},
        LORA | {"dropout": 0.0},
        {"objective": "sft", "optimizer": "adamw"},
        Step(1, 24, 12, packed=False, checkpointing=True, accumulates=False),
        Machine((8, 0)),
    )


def numbered(made: Stream) -> list[Event]:
    """With blocks numbered as they are allocated."""
    return [event._replace(block=int(block)) for event, block in zip(made, indexed(made).blocks, strict=True)]


class Counting:
    """Simulates, and remembers of how many layers."""

    def __init__(self) -> None:
        self.layers: list[object] = []

    def __call__(self, question: Question) -> Stream:
        self.layers.append(question.config["num_hidden_layers"])
        return stream(question)


LAYERS = 6
WHOLE = asked("llama", LAYERS)
QUESTIONS = {
    "llama": WHOLE,
    "4-bit": replace(WHOLE, model={**WHOLE.model, "quantization": "nf4", "double_quantization": True}),
    "whole, kept activations, 8-bit optimizer": replace(
        WHOLE,
        method={"name": "full"},
        training={"objective": "sft", "optimizer": "adamw_8bit"},
        step=replace(WHOLE.step, checkpointing=False),
    ),
    "preferences": replace(
        WHOLE, training={"objective": "dpo", "optimizer": "adamw"}, step=replace(WHOLE.step, rows=2)
    ),
    "experts": asked("mixtral", LAYERS, **EXPERTS),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_few_layers_tell_event_for_event_what_all_do(question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})  # one after the other, so that they are counted
    counting = Counting()
    made = shortened(question, counting)
    assert counting.layers == [2, 3]
    assert numbered(made) == numbered(stream(question))


@pytest.mark.parametrize(
    "question",
    [
        asked("gemma3_text", 14, sliding_window=8, head_dim=16),
        asked("gpt_oss", 12, sliding_window=8, head_dim=16, **EXPERTS),
        replace(
            asked("llama", 8),
            method={"name": "prefix", "virtual_tokens": 4},
            step=replace(WHOLE.step, checkpointing=False),
        ),
    ],
    ids=["gemma3", "gpt-oss", "prefix"],
)
def test_what_a_few_layers_do_not_tell_is_told_right_however_many_have_to_be_simulated(question: Question) -> None:
    made, whole = replay(shortened(question, stream)), replay(stream(question))
    assert made == whole


def test_layers_that_are_named_apart_are_all_simulated() -> None:
    targets = [f"model.layers.{place}.self_attn.q_proj" for place in (0, 5)]
    question = replace(WHOLE, method={**WHOLE.method, "targets": targets})
    counting = Counting()
    shortened(question, counting)
    assert counting.layers == [LAYERS]


def test_two_processes_say_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 1)  # of the test's own threads none is forked in the middle
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    beside = shortened(WHOLE, stream)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    assert numbered(beside) == numbered(shortened(WHOLE, stream))


def test_what_is_wrong_is_said_from_both_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    with pytest.raises(Problem):
        shortened(replace(WHOLE, method={**WHOLE.method, "targets": ["no_such_module"]}), stream)


def test_the_warm_child_says_what_the_simulation_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    simulator = Simulator()
    try:
        said: Answer = simulator.ask(WHOLE, 240.0)
        with pytest.raises(Problem) as refused:
            simulator.ask(asked("no_such_architecture", LAYERS), 240.0)
    finally:
        simulator.close()
    assert said == answer(WHOLE)
    assert refused.value.code == "model"


def kinds(word: str, *, one_structure: bool = False) -> list[Kind]:
    return [Kind("layer" if one_structure else letter, letter) for letter in word]


def test_cuts_keep_what_repeats_and_what_does_not() -> None:
    assert cuts(kinds("a" * 32))[0] == Cut((0, 1), (0, 1, 2), 30)
    dense_first = cuts(kinds("aaa" + "b" * 58))[0]
    assert (dense_first.short, dense_first.periods) == ((0, 1, 2, 3, 4), 56)
    assert cuts(kinds("abcdefgh")) == cuts(kinds("aaa")) == []


@pytest.mark.parametrize(
    "word", ["a" * 9, "aaab" * 8, "ab" * 12, "aab" + "c" * 30, "aaaaab" * 9 + "aaaa", "a" * 20 + "b"]
)
def test_a_cut_extended_has_the_layers_of_the_whole(word: str) -> None:
    for cut in cuts(kinds(word)):
        short, longer = ("".join(word[place] for place in places) for places in (cut.short, cut.longer))
        at = next((at for at, (one, other) in enumerate(zip(short, longer, strict=False)) if one != other), len(short))
        period = longer[at : at + len(longer) - len(short)]
        assert short[:at] + period * cut.periods + short[at:] == word


def test_kinds_that_differ_in_settings_are_cut_to_one_of_each_on_trial() -> None:
    on_trial = [cut for cut in cuts(kinds("aaaaab" * 5 + "aaaa", one_structure=True)) if cut.alike]
    assert [(len(cut.short), len(cut.longer), cut.periods) for cut in on_trial] == [(4, 5, 30)]
    assert not any(cut.alike for cut in cuts(kinds("aaab" * 8)))
