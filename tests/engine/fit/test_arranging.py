"""How simulated rows are laid out: told from the model, also where its layers cannot run yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.fit.question import Machine, Question, Step
from engine.fit.simulation.answer import answer
from tests.models import make


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_model_that_makes_its_masks_without_positions_is_simulated_in_4_bits_too(
    tmp_path: Path, quantization: str
) -> None:
    config = json.loads((make("gpt_oss", tmp_path / "base") / "config.json").read_text())
    step = Step(1, 32, 16, packed=True, checkpointing=False, accumulates=False)
    settings = {"dtype": "bfloat16", "quantization": quantization}
    found = answer(Question(config, settings, {"name": "lora", "rank": 4, "dropout": 0.0}, {}, step, Machine((8, 9))))
    assert found.allocated > 0
