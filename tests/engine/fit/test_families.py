"""Every architecture that people train can be simulated on GPUs too; what a real step of each takes on the CPU is held against it in `test_step`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from engine.fit.question import Answer, Machine, Phase, Question, Step
from engine.fit.simulation.answer import answer
from tests.models import FAMILIES, Family, make

LORA: Final[dict[str, object]] = {"name": "lora", "rank": 4, "dropout": 0.0}
PADDED: Final = Step(2, 64, 100, packed=False, checkpointing=False, accumulates=False)
PACKED: Final = Step(2, 64, 100, packed=True, checkpointing=True, accumulates=False)


def question(base: Path, step: Step, machine: Machine, **model: object) -> Question:
    config = json.loads((base / "config.json").read_text())
    return Question(config, {"quantization": "none", **model}, LORA, {}, step, machine)


@pytest.fixture(params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    family: Family = request.param
    return make(family, tmp_path / family)


def test_a_family_is_simulated_for_gpus_old_and_new(base: Path) -> None:
    for machine, step, model in (
        (Machine((7, 5)), PADDED, {"dtype": "float16", "attention": "eager"}),
        (Machine((9, 0), 2, "shard"), PACKED, {"dtype": "bfloat16"}),
    ):
        _check_whole(answer(question(base, step, machine, **model)))


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_flash_attention_is_simulated_where_its_package_is_not_installed(family: Family, tmp_path: Path) -> None:
    base = make(family, tmp_path / family)

    def found(attention: str, step: Step) -> Answer:
        return answer(question(base, step, Machine((8, 0)), dtype="bfloat16", attention=attention))

    for step in (PACKED, replace(PADDED, rows=1)):
        _check_whole(found("flash", step))
    assert found("flash", PADDED).allocated < found("eager", PADDED).allocated


def _check_whole(found: Answer) -> None:
    """That the parts are all of it, and each phase within the whole."""
    assert sum(found.parts.values()) == found.allocated <= found.reserved
    assert {Phase.LOAD, Phase.FORWARD, Phase.BACKWARD, Phase.STEP, Phase.EVALUATION} <= set(found.phases)
    assert max(most for most, _ in found.phases.values()) == found.allocated
