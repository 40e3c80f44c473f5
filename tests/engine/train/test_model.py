"""Loading a model, and the errors that people meet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import Problem
from engine.train import device, model, pretrained, result
from engine.train.checkpoint import trained
from tests.tiny import tiny_profile

CPU = torch.device("cpu")


def test_a_bfloat16_base_gets_a_float32_adapter_that_peft_loads(tiny_base: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    profile = tiny_profile(tiny_base, Path("rows"), **{"model.dtype": "bfloat16", "method.rslora": True})
    torch.manual_seed(1)
    loaded = model.load(profile, CPU, vocabulary=400)
    weights = trained(loaded.model)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert {name.split(".")[-4] for name in weights} >= {"q_proj", "down_proj"}  # all-linear
    assert loaded.trainable == sum(weight.numel() for weight in weights.values())
    assert loaded.total - loaded.trainable == 139_584
    with torch.no_grad():
        for weight in weights.values():
            weight.add_(0.05)
    result.write(tmp_path / "adapter", loaded, profile.model)
    plain = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.bfloat16)
    tuned = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    ours = model.load_result(profile.model, CPU, kind="adapter", path=tmp_path / "adapter")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        expected = loaded.model.eval()(input_ids=ids).logits
        assert torch.equal(tuned(input_ids=ids).logits, expected)
        assert torch.equal(ours(input_ids=ids).logits, expected)
        with tuned.disable_adapter():
            assert not torch.equal(tuned(input_ids=ids).logits, expected)


def test_a_full_result_is_a_model_with_its_tokenizer(tiny_base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    profile = tiny_profile(tiny_base, Path("rows"), **{"method.name": "full", "model.dtype": "bfloat16"})
    loaded = model.load(profile, CPU, vocabulary=400)
    assert loaded.trainable == loaded.total and loaded.autocast is torch.bfloat16
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    result.write(tmp_path / "model", loaded, profile.model)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert again.dtype is torch.bfloat16
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template


def test_bad_models_are_said_in_words(tiny_base: Path, tmp_path: Path) -> None:
    def refused(base: str | Path, **settings: object) -> Problem:
        with pytest.raises(Problem) as raised:
            model.load(
                tiny_profile(Path(base), Path("rows"), **{**settings, "model.base": str(base)}), CPU, vocabulary=400
            )
        return raised.value

    assert refused("no-such-owner/no-such-model").code == "network"  # the tests are offline
    assert refused(tmp_path / "nothing").code == "model"
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_base, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "safetensors" in str(refused(pickled))
    cut_off = tmp_path / "cut-off"  # a download that broke off, say
    shutil.copytree(tiny_base, cut_off)
    (cut_off / "model.safetensors").write_bytes((tiny_base / "model.safetensors").read_bytes()[:2000])
    assert "cannot be loaded" in refused(cut_off).what
    strange = tmp_path / "strange"
    shutil.copytree(tiny_base, strange)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps({**config, "model_type": "from-the-future"}))
    assert "from-the-future" in str(refused(strange))
    assert "did you mean q_proj" in str(refused(tiny_base, **{"method.targets": ("q_porj",)}))
    assert "flash-attn" in str(refused(tiny_base, **{"model.attention": "flash", "model.dtype": "bfloat16"}))


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(tiny_base: Path) -> None:
    with pytest.raises(Problem, match="does not belong") as raised:
        model.load(tiny_profile(tiny_base, Path("rows")), CPU, vocabulary=513)
    assert "513" in raised.value.why and "512" in raised.value.why


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_nan_in_the_base_is_found_when_it_is_loaded(
    tiny_base: Path, tmp_path: Path, quantization: str, value: float
) -> None:
    """A quantised base computes finite numbers all the same: nothing but the file shows it."""
    bad = tmp_path / "bad"
    shutil.copytree(tiny_base, bad)
    weights = load_file(bad / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name][3, 5] = value
    save_file(weights, bad / "model.safetensors", {"format": "pt"})
    with pytest.raises(Problem) as raised:
        model.load(tiny_profile(bad, Path("rows"), **{"model.quantization": quantization}), CPU, vocabulary=400)
    assert raised.value.what == f"The base model has values that are not finite: {name}"


def test_a_base_of_large_values_is_not_taken_for_one_of_nan(tiny_base: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    shutil.copytree(tiny_base, large)
    weights = load_file(large / "model.safetensors")
    weights["lm_head.weight"][:] = 3e38  # their sum is infinite
    save_file(weights, large / "model.safetensors", {"format": "pt"})
    pretrained.check_finite(large, "large")


def test_only_named_targets_are_adapted(tiny_base: Path) -> None:
    loaded = model.load(
        tiny_profile(tiny_base, Path("rows"), **{"method.targets": ("q_proj", "v_proj")}), CPU, vocabulary=9
    )
    assert {name.split(".")[-4] for name in trained(loaded.model)} == {"q_proj", "v_proj"}


def test_a_gpu_that_torch_cannot_use_names_driver_wheel_and_remedy() -> None:
    modern = device.unusable("H100", "580.65.06")
    assert "580.65.06" in modern.why and torch.__version__ in modern.why
    assert modern.do.startswith("pip install") and modern.do.endswith("/cu130")
    assert device.unusable("T4", "535.1").do.endswith("/cu126")
    assert "driver" in device.unusable("K80", "470.1").do
