"""Every architecture that people train: it learns, goes on bit for bit where it was, and its result loads and merges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from engine.errors import Problem
from engine.profile import Profile
from engine.train import anatomy, model, result
from tests.engine.train import steps
from tests.engine.train.steps import CPU
from tests.models import FAMILIES, Family, make
from tests.tiny import tiny_profile

IDS = torch.arange(5, 65).reshape(2, 30)


def profile(base: Path, **settings: object) -> Profile:
    return tiny_profile(base, Path("rows"), **{"training.learning_rate": 1e-2, **settings})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_resumes_and_its_result_loads_and_merges(family: Family, tmp_path: Path) -> None:
    base = make(family, tmp_path / family)
    tuning = steps.begin(profile(base))
    before = tuning.take(3)
    place = tuning.save(tmp_path / "checkpoints")
    losses = before + tuning.take(3)
    assert losses[-1] < 0.9 * losses[0]

    again = steps.resume(tuning.profile, place)
    assert before + again.take(3) == losses
    assert steps.same(again.weights(), tuning.weights())

    result.write(tmp_path / "adapter", tuning.loaded, tuning.profile.model)
    plain = AutoModelForCausalLM.from_pretrained(base)
    untuned = steps.logits(plain, IDS)
    tuned = PeftModel.from_pretrained(plain, tmp_path / "adapter")
    said = tuning.logits(IDS)
    assert torch.equal(steps.logits(tuned, IDS), said)
    assert torch.equal(
        model.load_result(tuning.profile.model, CPU, kind="adapter", path=tmp_path / "adapter")(
            input_ids=IDS, use_cache=False
        ).logits,
        said,
    )
    assert (said - untuned).abs().max() > 0.1
    merged = tuned.merge_and_unload()
    torch.testing.assert_close(steps.logits(merged, IDS), said, rtol=0, atol=1e-4)


# peft#3009: "target_modules='all-linear' does not target fused experts"
@pytest.mark.parametrize("family", ["gpt_oss", "qwen3_moe"])
def test_all_linear_does_not_miss_experts(family: Family, tmp_path: Path) -> None:
    base = make(family, tmp_path / family)
    tuning = steps.begin(profile(base, **{"method.dropout": 0.5}))
    before = tuning.weights()
    of_experts = [name for name in before if anatomy.kind_of(name) == "experts"]
    assert len(of_experts) == 2 * 2 * 2  # two layers, gate with up and down, A and B
    tuning.take(2)
    after = tuning.weights()
    assert all(not torch.equal(before[name], after[name]) for name in of_experts)
    drops = {
        name.split(".")[-3]
        for name, part in tuning.loaded.model.named_modules()
        if isinstance(part, torch.nn.Dropout) and part.p == 0.5
    }
    assert {
        "q_proj",
        "o_proj",
    } <= drops and "experts" not in drops  # PEFT refuses dropout on experts, and so on anything beside them

    named = steps.begin(profile(base, **{"method.targets": ("q_proj", "experts.down_proj")}))
    assert {anatomy.kind_of(name) for name in named.weights()} == {"attention", "experts"}
    with pytest.raises(Problem, match="experts") as raised:
        steps.begin(profile(base, **{"method.dora": True}))
    assert "method.dora = false" in raised.value.do


@pytest.mark.parametrize("family", FAMILIES)
def test_ia3_scales_keys_values_and_the_last_layer_of_each_feed_forward_block(family: Family, tmp_path: Path) -> None:
    tuning = steps.begin(profile(make(family, tmp_path / family), **{"method.name": "ia3"}))
    scaled = {name.split(".")[-3] for name in tuning.weights()}
    recurrent = {"in_proj_qkv"} if family == "qwen3_5" else set()
    last = set() if family in ("gpt_oss", "qwen3_moe") else {"down_proj"}  # of experts there is no linear module
    assert scaled == {"k_proj", "v_proj"} | recurrent | last
    ahead = {
        name.split(".")[-1]: part.is_feedforward
        for name, part in tuning.loaded.model.named_modules()
        if hasattr(part, "is_feedforward")
    }
    assert ahead == {name: name == "down_proj" for name in scaled}  # its input is scaled, of others the output
    losses = tuning.take(6)
    assert losses[-1] < losses[0]


def test_a_method_that_an_architecture_does_not_bear_is_refused_with_the_reason(tmp_path: Path) -> None:
    def refused(family: Family, method: str) -> str:
        with pytest.raises(Problem) as raised:
            steps.begin(profile(make(family, tmp_path / family), **{"method.name": method}))
        return str(raised.value)

    assert "a state in place of keys and values" in refused("qwen3_5", "prefix")
    assert "look up embeddings by token" in refused("gemma4", "prompt_tuning")
    assert "look up embeddings by token" in refused("gemma4", "p_tuning")
