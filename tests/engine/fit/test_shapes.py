"""Shapes and cards that ship: counted parameters against published ones, figures that are whole, names that are found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from engine.errors import Problem
from engine.fit import cards, shapes
from engine.gpu import Gpu
from engine.places import shipped
from engine.profile_file import find, read

BNB: Final = {"quant_method": "bitsandbytes", "load_in_4bit": True}


def test_counted_parameters_are_the_published_ones() -> None:
    off = {model.name: model.shape.parameters - model.parameters for model in shapes.shipped_models()}
    assert off.pop("StableLM 2 1.6B") == 24 * 2 * 2048  # its card leaves out the biases of the blocks' norms
    assert set(off.values()) == {0}
    kinds = {model.config["model_type"] for model in shapes.shipped_models()}
    assert kinds >= {"llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma3", "gpt_oss", "phi3"}
    assert all(model.source.count("http") == 1 for model in shapes.shipped_models())


def test_a_shape_is_counted_as_the_weights_that_are_there(tiny_base: Path) -> None:
    from safetensors import safe_open

    with safe_open(tiny_base / "model.safetensors", "numpy") as file:
        there = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118 - not a dict
    assert shapes.of_model(str(tiny_base)).parameters == there


def test_a_model_that_ships_needs_no_network() -> None:
    assert shapes.of_model("meta-llama/Llama-3.2-1B").layers == 16
    config = shapes.config_of("mistralai/Mistral-7B-Instruct-v0.2")
    assert config["model_type"] == "mistral"
    assert config["sliding_window"] is None  # said to be none, which transformers' default is not


def test_a_folder_s_own_configuration_comes_first(tiny_base: Path) -> None:
    assert shapes.config_of(str(tiny_base)) == json.loads((tiny_base / "config.json").read_text())


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"model_type": "mamba"}, "shape", "mamba"),
        ({"hidden_size": None}, "model", "hidden_size"),
        ({"model_type": None}, "shape", "not named"),
        ({"model_type": "qwen3_moe", "mlp_only_layers": [0, 1]}, "shape", "Only some of its layers have experts"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "shape", "published quantised (gptq)"),
        ({"quantization_config": {**BNB, "llm_int8_skip_modules": ["o_proj"]}}, "shape", "(bitsandbytes)"),
        ({"num_hidden_layers": 28_000_000}, "model", "num_hidden_layers of 1 to 1,024 (it is 28,000,000)"),
    ],
)
def test_what_is_not_understood_is_refused(
    tiny_base: Path, tmp_path: Path, change: dict[str, object], code: str, words: str
) -> None:
    config = json.loads((tiny_base / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value}))
    with pytest.raises(Problem) as caught:
        shapes.of_model(str(tmp_path))
    assert caught.value.code == code
    assert words in str(caught.value)


def test_every_card_is_whole() -> None:
    specs = {spec.name: spec for spec in cards.specs()}
    assert set(specs) >= {
        "RTX 3060",
        "RTX 3090",
        "RTX 4090",
        "RTX 5090",
        "A100 40GB",
        "A100 80GB",
        "H100",
        "H200",
        "L4",
        "T4",
    }
    for spec in specs.values():
        assert 8_000 < spec.memory_mib < 200_000
        assert 280 < spec.bandwidth_gb_s <= 8000
        assert spec.fp16_tflops >= spec.fp32_tflops > 0
        assert (spec.bf16_tflops is None) == (spec.capability < (8, 0))
        assert spec.source.count("http") == 1
    names = [name for spec in specs.values() for name in spec.driver_names]
    assert len(names) == len(set(names))
    assert specs["T4"].tflops("bfloat16") == 8.1  # it has none and computes in float32


@pytest.mark.parametrize("name", ["RTX 4090", "rtx-4090", "4090", "NVIDIA GeForce RTX 4090"])
def test_a_card_is_found_by_any_of_its_names(name: str) -> None:
    assert cards.named(name).name == "RTX 4090"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("RTX 4009", "RTX 4090"),
        ("a100", "A100 40GB or A100 40GB PCIe or A100 80GB or A100 80GB PCIe"),
        ("h20", "H200"),
        ("4070 super", "RTX 4070"),
        ("RTX 6000", "RTX 6000 Ada"),
    ],
)
def test_a_typo_gets_the_closest_card(name: str, near: str) -> None:
    with pytest.raises(Problem, match=f"did you mean {near}"):
        cards.named(name)


def test_a_live_gpu_brings_its_own_memory_and_its_kinds_speed() -> None:
    live = Gpu("GPU-1", 0, "H200", total_mib=143_771.0, free_mib=10_000.0)
    silent = Gpu("GPU-2", 1, "does not answer")
    (card,) = cards.live([live, silent])
    assert (card.uuid, card.free_mib) == ("GPU-1", 10_000.0)
    assert card.spec is not None
    assert card.spec.bandwidth_gb_s == 4800


def test_a_card_in_a_slot_is_slower_than_one_on_a_board() -> None:
    for board, slot in (
        ("A100-SXM4-80GB", "A100 80GB PCIe"),
        ("Tesla V100-SXM2-16GB", "Tesla V100-PCIE-16GB"),
        ("RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell Server Edition"),
    ):
        fast, slow = cards.spec_of(board), cards.spec_of(slot)
        assert fast and slow and fast.memory_mib == slow.memory_mib
        assert (slow.watts, slow.bandwidth_gb_s, slow.fp16_tflops) < (fast.watts, fast.bandwidth_gb_s, fast.fp16_tflops)
        assert slow.link_gb_s == cards.PCIE_GB_S


def test_a_slice_of_a_gpu_has_its_share() -> None:
    whole, half = cards.spec_of("A100-SXM4-40GB"), cards.spec_of("NVIDIA A100-SXM4-40GB MIG 3g.20gb")
    assert whole and half and whole.bf16_tflops
    assert half.bandwidth_gb_s == whole.bandwidth_gb_s / 2
    assert half.bf16_tflops == pytest.approx(whole.bf16_tflops * 3 / 7)
    assert cards.spec_of("Unheard of MIG 1g.5gb") is None


def test_a_slice_may_be_asked_for_by_name() -> None:
    found = cards.named("a100-40gb MIG 3g.20gb")
    assert (found.name, found.total_mib) == ("A100 40GB MIG 3g.20gb", 20_480)
    live = cards.spec_of("A100-SXM4-40GB MIG 3g.20gb")
    assert live and found.spec == replace(live, name=found.name)
    assert cards.named("A30 MIG 4g.24gb").total_mib == 24_576
    for name in ("A100 40GB MIG 8g.80gb", "A100 40GB MIG 1g.80gb", "A30 MIG 0g.0gb"):
        with pytest.raises(Problem, match="has a slice"):
            cards.named(name)
    with pytest.raises(Problem, match="did you mean RTX 4090"):
        cards.named("RTX 4009 MIG 1g.5gb")


def test_shipped_profiles_of_the_hub_have_shapes() -> None:
    for path in (shipped() / "domains").glob("*.toml"):
        base = read(find(path.stem)).model.base
        if "/" in base and not base.startswith(("/", ".")):
            assert shapes.of_model(base).parameters > 10**8, path.name
