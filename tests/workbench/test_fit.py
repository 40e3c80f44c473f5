"""`workbench fit`: figures for machines and people, exit codes, and what is assumed where something is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from engine.fit.failures import Failure
from engine.gpu import Gpu
from engine.profile_file import dump
from tests.tiny import tiny_profile, write_rows
from workbench.cli import fit_told, main

KEYS = {"name", "uuid", "total_mib", "free_mib", "fits", "headroom_mib", "micro_batch_max", "predicted", "ladder"}


@pytest.fixture
def profile(tiny_base: Path, tmp_path: Path) -> str:
    rows = write_rows(tmp_path / "rows.jsonl", 40)
    path = tmp_path / "tiny.toml"
    path.write_text(dump(tiny_profile(tiny_base, rows, **{"hardware.device": "auto", "hardware.gpus": "auto"})))
    return str(path)


def test_json_has_the_keys_that_scripts_rely_on(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    # A kind that is named twice is told of once.
    assert main(["fit", profile, "--gpu", "rtx 4090", "--gpu", "T4", "--gpu", "4090", "--estimate", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["source"] == "estimated"
    assert told["steps"] == 16
    assert told["seconds"][0] < told["seconds"][1]
    assert [gpu["name"] for gpu in told["gpus"]] == ["RTX 4090", "T4"]
    for gpu in told["gpus"]:
        assert gpu.keys() >= KEYS
        assert gpu["uuid"] is None
        assert gpu["predicted"].keys() == {"allocated_mib", "reserved_mib", "process_mib", "parts"}
        assert sum(gpu["predicted"]["parts"].values()) == pytest.approx(gpu["predicted"]["process_mib"])


def test_what_does_not_fit_is_a_no_with_a_way_out(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["fit", profile, "--estimate", "--gpu", "T4", "--set", "hardware.headroom_mib=14800"])
    told = capsys.readouterr()
    assert code == 1
    assert re.search(r"^T4 +no", told.out, re.MULTILINE)
    assert "Does not fit T4" in told.err


def test_a_card_without_the_type_is_told_of(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    for dtype, lacks in (("bfloat16", True), ("float16", False)):
        main(["fit", profile, "--estimate", "--gpu", "T4", "--gpu", "L4", "--set", f"model.dtype={dtype}"])
        said = capsys.readouterr().err
        assert ("T4 has no bfloat16" in said) == lacks and "L4 has no" not in said


def test_tables_have_room_in_eighty_columns(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    wide = ["--set", "model.base=Qwen/Qwen3-8B", "--set", "method.name=full", "--set", "training.learning_rate=1e-5"]
    assert main(["fit", profile, "--estimate", "--gpu", "A100 40GB MIG 3g.20gb", "--gpu", "RTX 4090", *wide]) == 1
    said = capsys.readouterr().out.splitlines()
    assert max(map(len, said)) <= 80
    assert any(line.split()[:1] == ["weights"] and len(line.split()) == 3 for line in said)  # a column for each GPU
    assert any("method.name = lora" in line for line in said)


def test_a_gpu_with_a_typo_gets_the_closest(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", profile, "--gpu", "RTX 4009"]) == 2
    told = capsys.readouterr()
    assert "did you mean RTX 4090?" in told.err
    assert told.out == ""


def test_on_the_cpu_as_asked(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", profile, "--estimate", "--set", "hardware.device=cpu"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[1].startswith("CPU")
    assert "Runs on the CPU with at least" in told.err


def test_without_a_gpu_it_says_what_it_assumed(
    profile: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(["fit", profile, "--estimate"]) == 0
    assert "Predicted for the CPU" in capsys.readouterr().err


def test_a_model_that_is_not_here_is_judged_by_its_shape(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = "model.base=meta-llama/Llama-3.2-1B"
    assert (
        main(["fit", profile, "--estimate", "--gpu", "L4", "--set", base, "--set", "model.dtype=bfloat16", "--json"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["gpus"][0]["predicted"]["parts"]["weights"] == pytest.approx(2 * 1_235_814_400 / 2**20)
    assert any("letters" in note for note in told["notes"])


def test_what_cannot_be_read_is_a_two(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", profile, "--set", "data.0.source=nothing.jsonl", "--gpu", "T4"]) == 2
    assert "nothing.jsonl" in capsys.readouterr().err


def test_what_is_simulated_once_is_known_then(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    asked = ["fit", profile, "--gpu", "RTX 4090", "--gpu", "L4", "--json"]  # the same to CUDA: one simulation
    assert main(asked) == 0
    first = json.loads(capsys.readouterr().out)
    assert {gpu["source"] for gpu in first["gpus"]} == {"simulated"}
    phases = first["gpus"][0]["phases"]
    assert phases.keys() >= {"load", "forward", "backward", "step"}
    most = max(phase["allocated_mib"] for phase in phases.values())
    assert most == pytest.approx(first["gpus"][0]["predicted"]["allocated_mib"])
    assert main([*asked, "--estimate"]) == 0
    assert json.loads(capsys.readouterr().out)["gpus"][0]["predicted"] == first["gpus"][0]["predicted"]


def test_a_simulation_that_cannot_be_had_is_said_and_formulas_answer(
    profile: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.fit.simulator.installed", lambda: False)
    assert main(["fit", profile, "--gpu", "T4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["source"] == "estimated"
    assert any("torch is not installed" in note for note in told["notes"])


def test_a_price_makes_a_cost(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", profile, "--estimate", "--gpu", "H100", "--price", "3", "--json"]) == 0
    (gpu,) = json.loads(capsys.readouterr().out)["gpus"]
    assert gpu["cost"] == pytest.approx([3 * second / 3600 for second in gpu["seconds"]])
    assert main(["fit", profile, "--estimate", "--gpu", "H100", "--price", "-1"]) == 2
    assert "no price" in capsys.readouterr().err


def test_failures_on_the_gpu_are_told_as_warnings() -> None:
    failed = Failure("big", "u1", "OOM at 12", 0.0, (("training.micro_batch", 4, 8),))
    assert fit_told.failure(failed, "RTX 4090") == (
        "On RTX 4090 a run like this failed: big, OOM at 12. It differs in training.micro_batch 8 (there 4)."
    )


def test_a_method_that_the_base_does_not_bear_is_refused_and_experts_are_noted(
    profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    experts = ["fit", profile, "--estimate", "--gpu", "H200", "--set", "model.base=Qwen/Qwen3-30B-A3B"]
    assert main([*experts, "--set", "method.dora=true"]) == 2
    assert "DoRA cannot adapt" in capsys.readouterr().err
    named = [*experts, "--set", 'method.targets=["gate_up_proj"]', "--set", "model.quantization=nf4"]
    assert main(named) in (0, 1)
    assert "the experts" in capsys.readouterr().err


def test_a_gpu_that_others_hold_is_said(
    profile: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = Gpu("GPU-11111111", 0, "GeForce RTX 4090", total_mib=24_564.0, free_mib=600.0)
    silent = Gpu("GPU-22222222", 1, "GeForce RTX 4090")
    monkeypatch.setattr("engine.gpu.gpus", lambda: (taken, silent))
    assert main(["fit", profile, "--estimate"]) == 1
    assert "Does not fit GeForce RTX 4090 (23.4 of 24.0 GiB are taken)" in capsys.readouterr().err
    monkeypatch.setattr("engine.gpu.gpus", lambda: (silent,))
    assert main(["fit", profile, "--estimate"]) == 2
    assert "How much memory GeForce RTX 4090 has is not known" in capsys.readouterr().err
