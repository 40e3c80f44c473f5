"""More of anything never takes less: what is predicted to be allocated does not fall when a micro-batch, a row, a rank or a model grows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engine.fit.question import Machine, Question, Step
from engine.fit.simulation.answer import answer

LLAMA: Final[dict[str, object]] = {
    "model_type": "llama",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
Grows = Literal["rows", "tokens", "supervised", "rank", "layers"]
CPU, AMPERE, TWO_PARTS = Machine(None), Machine((8, 0)), Machine((8, 0), 2, "shard")


def asked(size: dict[str, int], machine: Machine, **how: Any) -> Question:
    """A step of this size; `how` is of the step, but `attention`."""
    model = {"dtype": "bfloat16", "quantization": "none", "attention": how.pop("attention")}
    method = {"name": "lora", "rank": size["rank"], "dropout": 0.1}
    places = size["rows"] * (size["tokens"] - 1)
    step = Step(size["rows"], size["tokens"], min(size["supervised"], places), accumulates=False, **how)
    return Question({**LLAMA, "num_hidden_layers": size["layers"]}, model, method, {}, step, machine)


@settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.fixed_dictionaries(
        {
            "rows": st.integers(1, 6),
            "tokens": st.integers(16, 200),
            "supervised": st.integers(1, 400),
            "rank": st.integers(1, 64),
            "layers": st.integers(1, 4),
        }
    ),
    grows=st.sampled_from(["rows", "tokens", "supervised", "rank", "layers"]),
    by=st.integers(1, 5),
    machine=st.sampled_from([CPU, AMPERE, TWO_PARTS]),
    checkpointing=st.booleans(),
    packed=st.booleans(),
    attention=st.sampled_from(["sdpa", "eager"]),
)
@example({"rows": 1, "tokens": 64, "supervised": 30, "rank": 8, "layers": 2}, "rows", 1, AMPERE, False, False, "sdpa")
@example({"rows": 2, "tokens": 33, "supervised": 30, "rank": 8, "layers": 2}, "tokens", 1, AMPERE, False, False, "sdpa")
@example({"rows": 2, "tokens": 64, "supervised": 60, "rank": 8, "layers": 1}, "layers", 1, AMPERE, True, True, "sdpa")
def test_more_of_anything_never_takes_less(
    size: dict[str, int],
    grows: Grows,
    by: int,
    machine: Machine,
    checkpointing: bool,
    packed: bool,
    attention: str,
) -> None:
    larger = {**size, grows: size[grows] + by}
    small, large = (
        answer(asked(each, machine, checkpointing=checkpointing, packed=packed, attention=attention))
        for each in (size, larger)
    )
    assert small.allocated <= large.allocated


@pytest.mark.parametrize("machine", [CPU, AMPERE], ids=["cpu", "gpu"])
def test_what_saves_memory_saves_it(machine: Machine) -> None:
    size = {"rows": 4, "tokens": 128, "supervised": 200, "rank": 8, "layers": 4}
    plain = asked(size, machine, checkpointing=False, packed=False, attention="sdpa")
    again = replace(plain, step=replace(plain.step, checkpointing=True))
    eager = asked(size, machine, checkpointing=False, packed=False, attention="eager")
    assert answer(again).allocated < answer(plain).allocated < answer(eager).allocated
