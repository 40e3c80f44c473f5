"""The optimizers: what they decay, and that their state comes back bit for bit for every method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import Problem
from engine.profile import Profile
from engine.train import optimizer
from engine.train.checkpoint import trained
from tests.engine.train import steps
from tests.engine.train.steps import CPU
from tests.models import make
from tests.tiny import tiny_profile

OPTIMIZERS = ("adamw", "adamw_8bit", "adafactor")
METHODS: dict[str, dict[str, object]] = {
    "full": {"method.name": "full"},
    "lora": {"method.bias": "all", "method.modules_to_save": ("lm_head",)},
    "dora": {"method.dora": True},
    "ia3": {"method.name": "ia3"},
    "prefix": {"method.name": "prefix", "method.virtual_tokens": 64},
    "p_tuning": {"method.name": "p_tuning"},
    "prompt_tuning": {"method.name": "prompt_tuning"},
}


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with biases."""
    return make("llama", tmp_path_factory.mktemp("bases") / "biased", attention_bias=True, mlp_bias=True)


def profile(base: Path, **settings: object) -> Profile:
    quick = {"training.learning_rate": 1e-2, "training.weight_decay": 0.5}
    return tiny_profile(base, Path("rows"), **{**quick, **settings})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_comes_back_bit_for_bit(biased: Path, tmp_path: Path, name: str, method: str) -> None:
    tuning = steps.begin(profile(biased, **METHODS[method], **{"training.optimizer": name}))
    tuning.take(2)
    place = tuning.save(tmp_path)
    tensors, numbers = optimizer.state(tuning.optimizer)
    losses = tuning.take(2)
    again = steps.resume(tuning.profile, place)
    tensors_again, numbers_again = optimizer.state(again.optimizer)
    assert numbers == numbers_again and steps.same(tensors, tensors_again) and tensors
    if name == "adamw_8bit" and method in ("full", "lora", "prefix"):
        assert any(
            state.dtype == torch.uint8 for state in tensors.values()
        )  # small weights keep their states in 32 bits
    assert again.take(2) == losses
    assert steps.same(again.weights(), tuning.weights())


SHRINKING = {
    "full": {"q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight", "gate_proj.weight", "up_proj.weight",
             "down_proj.weight", "lm_head.weight"},
    "lora": {"lora_A", "lora_B", "lm_head.modules_to_save"},
    "dora": {"lora_A", "lora_B"},
    "ia3": set(),
    "prefix": set(),
    "p_tuning": {"0.weight", "2.weight", "4.weight"},
    "prompt_tuning": set(),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_leaves_norms_biases_scales_and_embeddings_alone(biased: Path, name: str, method: str) -> None:
    tuning = steps.begin(profile(biased, **METHODS[method], **{"training.optimizer": name}))
    weights = trained(tuning.loaded.model)
    with torch.no_grad():
        for weight in weights.values():
            weight.fill_(1.0)
            weight.grad = torch.zeros_like(weight)
    tuning.optimizer.step()
    shrunk = {key for key, weight in weights.items() if bool((weight < 1).all())}
    assert all(key in shrunk or bool((weight == 1).all()) for key, weight in weights.items())
    assert {part for part in SHRINKING[method] if any(part in key for key in shrunk)} == SHRINKING[method]
    assert all(any(part in key for part in SHRINKING[method]) for key in shrunk)
    for key in shrunk:
        torch.testing.assert_close(weights[key], torch.full_like(weights[key], 1 - 1e-2 * 0.5))


def test_a_head_that_is_the_embedding_is_not_decayed(tmp_path: Path) -> None:
    tuning = steps.begin(profile(make("qwen3", tmp_path / "tied"), **{"method.name": "full"}))
    decays = optimizer.decays(tuning.loaded.model)
    assert decays["model.embed_tokens.weight"] is False and "lm_head.weight" not in decays


def test_biases_of_experts_are_not_decayed(tmp_path: Path) -> None:
    tuning = steps.begin(profile(make("gpt_oss", tmp_path / "experts"), **{"method.name": "full"}))
    decays = optimizer.decays(tuning.loaded.model)
    assert decays["model.layers.0.mlp.experts.gate_up_proj"] is True
    assert decays["model.layers.0.mlp.experts.gate_up_proj_bias"] is False  # a matrix: a vector for each expert
    assert decays["model.layers.0.self_attn.sinks"] is False


def test_paged_states_need_a_gpu(biased: Path) -> None:
    wanted = profile(biased, **{"training.optimizer": "paged_adamw_8bit"})
    with pytest.raises(Problem, match="NVIDIA GPU"):
        optimizer.make(torch.nn.Linear(2, 2), wanted.training, CPU)
