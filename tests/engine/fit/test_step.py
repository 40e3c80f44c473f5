"""The engine's own step, simulated without weights, against what a real run of the same tiny model allocates, phase by phase."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from engine.fit.question import Machine, Phase, Question, Step
from engine.fit.simulation.answer import answer
from tests.engine.fit import real
from tests.models import make

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


def check(base: Path, asked: Question) -> None:
    """Every phase within one percent, and so the whole."""
    measured = real.peaks(base, asked)
    simulated = answer(asked)
    found = {phase: simulated.phases[phase][0] for phase in Phase}
    off = {phase: found[phase] / measured[phase] - 1 for phase in Phase}
    assert all(abs(error) < WITHIN for error in off.values()), (off, measured, found)
    assert simulated.allocated == max(found.values()) == sum(simulated.parts.values())


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
