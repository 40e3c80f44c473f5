"""The benchmark against measured steps: it takes the file's form, knows the families, and its figures are near what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.fit.allocator import replay
from tests.benchmarks import vram
from tests.benchmarks.vram_families import family, parameters
from tests.benchmarks.vram_program import stream

MEASURED = Path(__file__).parents[4] / "shared" / "data" / "vram-t4" / "measured.json"
TINY = {
    "name": "tiny",
    "num_params": 0,
    "hidden_size": 64,
    "num_layers": 2,
    "num_attention_heads": 4,
    "num_kv_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 128,
    "head_dim": 16,
    "tie_word_embeddings": False,
}
RUN = {
    "attn_impl": "eager",
    "kernel": "eager",
    "seq_len": 32,
    "batch_size": 2,
    "precision": "fp16",
    "quantization": "none",
    "double_quant": False,
    "optimizer": "adamw",
    "lora_rank": 4,
    "lora_targets": ["q_proj", "v_proj"],
    "grad_checkpoint": True,
}
LLAMA = family("llama", TINY).config


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """What was measured, where it is."""
    if not MEASURED.exists():
        pytest.skip(f"{MEASURED} is not there: the project does not ship what others measured")
    found: list[dict[str, Any]] = json.loads(MEASURED.read_text())
    return found


def row(model: str, attention: str, quantization: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The smallest such row."""
    ours = [
        each
        for each in rows
        if model in each["model_id"]
        and (each["run"]["attn_impl"], each["run"]["quantization"]) == (attention, quantization)
    ]
    return min(ours, key=lambda each: each["run"]["seq_len"] * each["run"]["batch_size"])


@pytest.mark.parametrize(("attention", "quantization"), [("sdpa", "none"), ("eager", "nf4")])
def test_what_was_measured_is_simulated(attention: str, quantization: str, rows: list[dict[str, Any]]) -> None:
    measured = row("SmolLM2-135M", attention, quantization, rows)
    figures = vram.compared([measured], jobs=1, peers=False)["rows"][0]
    assert abs(figures["allocated_error_pct"]) < 0.25
    assert abs(figures["reserved_error_pct"]) < 8
    assert figures["process_mib"] == figures["reserved_mib"] + measured["measured"]["cuda_context_mib"]
    assert (figures["family"], figures["family_exact"]) == ("llama", True)


def test_every_measured_model_has_a_family_with_as_many_parameters(rows: list[dict[str, Any]]) -> None:
    shapes = {each["model_id"]: each["model_config"] for each in rows}
    found = {name: family(name, shape) for name, shape in shapes.items()}
    assert all(each.exact for each in found.values())
    assert found["Qwen/Qwen2.5-1.5B-Instruct"].name == "qwen2"


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "stablelm", "mistral"])
def test_a_family_is_told_by_name_and_confirmed_by_the_count(kind: str) -> None:
    counted = {**TINY, "num_params": parameters(family(kind, TINY).config)}
    told = family(f"someone/{kind}-tiny", counted)
    assert (told.name, told.exact) == (kind, True)


def test_a_count_overrules_a_name_that_says_nothing() -> None:
    with_biases = {**TINY, "num_params": parameters(family("qwen2", TINY).config)}
    assert family("someone/finetune", with_biases).exact
    assert not family("someone/finetune", {**TINY, "num_params": 7}).exact


@pytest.mark.parametrize(
    "changed",
    [
        {"attn_impl": "sdpa"},
        {"grad_checkpoint": False},
        {"lora_rank": None, "lora_targets": []},
        {"precision": "fp32", "lora_rank": None},
        {"precision": "bf16"},
        {"quantization": "nf4", "double_quant": True},
        {"quantization": "int8"},
        {"optimizer": "adam8bit"},
        {"optimizer": "sgd-momentum"},
    ],
    ids=str,
)
def test_every_way_that_the_measuring_program_knows_runs(changed: dict[str, Any]) -> None:
    peaks = replay(stream(LLAMA, {**RUN, **changed}))
    assert 0 < peaks.allocated <= peaks.reserved


def test_full_training_in_16_bits_keeps_weights_in_32_beside() -> None:
    adapter, whole = (replay(stream(LLAMA, {**RUN, "lora_rank": rank})) for rank in (4, None))
    assert whole.allocated - adapter.allocated > 4 * parameters(LLAMA)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '[{"model_id": "a"}]'])
def test_a_file_of_another_form_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    file.write_text(content)
    assert vram.main([str(file)]) == 2
    assert "cannot be used" in capsys.readouterr().err
