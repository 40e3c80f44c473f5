"""The engine's own step, simulated without weights, against what a real run of the same tiny model allocates, phase by phase."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from engine.fit.question import Answer, Machine, Part, Phase, Question, Step
from engine.fit.simulation.answer import answer, stream
from engine.fit.stream import Event
from tests.engine.fit import real
from tests.models import FAMILIES, Family, make
from tests.tiny import VOCABULARY

LORA: Final[dict[str, object]] = {"name": "lora", "rank": 8, "dropout": 0.1}
PADDED: Final = Step(4, 96, 200, packed=False, checkpointing=False, accumulates=False)
PACKED: Final = Step(2, 128, 200, packed=True, checkpointing=False, accumulates=True)
WITHIN: Final = 0.01


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("llama"))


def question(
    base: Path,
    *,
    model: dict[str, object] | None = None,
    method: dict[str, object] | None = None,
    training: dict[str, object] | None = None,
    step: Step = PADDED,
) -> Question:
    config = json.loads((base / "config.json").read_text())
    return Question(
        config, {"dtype": "float32", **(model or {})}, method or LORA, training or {}, step, Machine(capability=None)
    )


def check(base: Path, asked: Question, *, but: tuple[Phase, ...] = ()) -> None:
    """The whole within one percent, and every phase; those of `but` peak inside of a CPU's kernel, which no operation shows."""
    measured = real.peaks(base, asked)
    simulated = answer(asked)
    found = {phase: simulated.phases[phase][0] for phase in Phase}
    off = {phase: found[phase] / measured[phase] - 1 for phase in Phase if phase not in but}
    assert all(abs(error) < WITHIN for error in off.values()), (off, measured, found)
    assert simulated.allocated == max(found.values()) == sum(simulated.parts.values())
    assert abs(simulated.allocated / max(measured.values()) - 1) < WITHIN


METHODS: Final[dict[str, dict[str, object]]] = {
    "full": {"name": "full"},
    "lora": LORA,
    "dora": {**LORA, "dora": True},
    "bias": {**LORA, "bias": "all", "dropout": 0.0, "targets": ("q_proj", "v_proj")},
    "whole modules": {**LORA, "modules_to_save": ("lm_head",)},
    "ia3": {"name": "ia3"},
    "prefix": {"name": "prefix", "virtual_tokens": 8},
    "p_tuning": {"name": "p_tuning", "virtual_tokens": 8},
    "prompt_tuning": {"name": "prompt_tuning", "virtual_tokens": 8},
}


@pytest.mark.parametrize("objective", ["sft", "pretrain", "dpo", "orpo"])
@pytest.mark.parametrize(
    ("method", "checkpointing"),
    [(name, again) for name in METHODS for again in (False, True) if not again or name != "prefix"],  # which bears none
)
def test_every_method_and_objective_takes_what_a_real_step_takes(
    llama: Path, method: str, checkpointing: bool, objective: str
) -> None:
    step = Step(4, 96, 200, packed=False, checkpointing=checkpointing, accumulates=False)
    check(llama, question(llama, method=METHODS[method], training={"objective": objective}, step=step))


EXPERTS: Final[dict[str, object]] = {**LORA, "dropout": 0.0, "targets": ("gate_up_proj", "down_proj", "q_proj")}


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("llama", {**LORA, "rslora": True}),
        ("llama", {**LORA, "bias": "lora_only", "targets": ("q_proj",)}),
        ("qwen3", {**LORA, "modules_to_save": ("embed_tokens",)}),  # which is its head too
        ("qwen3_moe", EXPERTS),
        ("gpt_oss", EXPERTS),
    ],
    ids=["rslora", "biases beside", "tied embeddings", "experts", "experts with biases"],
)
def test_what_else_an_adapter_may_be_on(family: Family, method: dict[str, object], tmp_path: Path) -> None:
    base = make(family, tmp_path)
    check(base, question(base, method=method, step=replace(PADDED, accumulates=True)))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_what_a_real_step_takes(family: Family, packed: bool, tmp_path: Path) -> None:
    base = make(family, tmp_path)  # rows that it may not pack are padded, in both
    check(base, question(base, step=replace(PACKED, checkpointing=True) if packed else PADDED))


@pytest.mark.parametrize("method", ["lora", "dora", "bias", "ia3", "prefix", "prompt_tuning"])
@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_a_quantised_base_takes_what_a_real_one_takes(llama: Path, quantization: str, method: str) -> None:
    model = {"quantization": quantization, "dtype": "bfloat16", "double_quantization": quantization != "fp4"}
    # The CPU multiplies 16 bits in packed copies, and adds unlike types in one.
    check(llama, question(llama, model=model, method=METHODS[method]), but=(Phase.EVALUATION,))


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_scales_of_quantised_weights_are_weights(llama: Path, quantization: str) -> None:
    left: dict[int, Event] = {}
    for event in stream(question(llama, model={"dtype": "bfloat16", "quantization": quantization})):
        if event.phase is Phase.LOAD and event.size:
            left[event.block] = event
        elif event.phase is Phase.LOAD:
            del left[event.block]
    assert {event.part for event in left.values()} == {Part.WEIGHTS, Part.ADAPTER}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_types_and_kernels(llama: Path, method: str, dtype: str, attention: str, packed: bool) -> None:
    model: dict[str, object] = {"dtype": dtype, "attention": attention}
    asked = question(llama, model=model, method=METHODS[method], step=PACKED if packed else PADDED)
    check(llama, asked, but=(Phase.EVALUATION,))


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit", "adafactor"])
def test_optimizers(tmp_path: Path, optimizer: str, method: str) -> None:
    base = make("llama", tmp_path, hidden_size=128)  # 8 bits begin with weights of 4096
    asked = question(base, method=METHODS[method], training={"optimizer": optimizer})
    # bitsandbytes' update on a CPU is Python with copies in float32.
    check(base, asked, but=(Phase.STEP,) if optimizer == "adamw_8bit" else ())


def test_logits_of_many_tokens_never_stand_together(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.train.scorer.LOGITS_AT_ONCE", 16 * 400)
    check(llama, question(llama))


def test_a_single_row_has_no_mask(llama: Path) -> None:
    check(llama, question(llama, step=Step(1, 200, 50, packed=False, checkpointing=False, accumulates=True)))


def test_on_a_gpu_what_memory_is_for_is_told_apart_and_paged_states_lie_elsewhere(tmp_path: Path) -> None:
    base = make("llama", tmp_path, hidden_size=256)
    ampere = Machine(capability=(8, 0))

    def found(optimizer: str) -> Answer:
        asked = question(base, method={"name": "full"}, training={"optimizer": optimizer}, step=PACKED)
        return answer(replace(asked, machine=ampere))

    plain, small, paged = found("adamw"), found("adamw_8bit"), found("paged_adamw_8bit")
    assert set(plain.phases) == set(Phase)
    assert plain.parts[Part.OPTIMIZER] == pytest.approx(
        2 * plain.parts[Part.WEIGHTS], rel=0.02
    )  # two moments in float32
    assert 3 * small.parts[Part.OPTIMIZER] < plain.parts[Part.OPTIMIZER]
    matrices = 2 * VOCABULARY * 256  # embedding and head alone have 100,000 weights; two moments in 8 bits
    assert small.parts[Part.OPTIMIZER] - paged.parts[Part.OPTIMIZER] == 2 * matrices
    assert all(one.allocated <= one.reserved for one in (plain, small, paged))
