"""`workbench watch` on the command line: one look, its figures, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.ledger import Ledger, runs, summaries
from workbench.cli import main


def trained(out: Path) -> None:
    """A folder that Trainer has trained into for 4 of 4 steps, without any tracker."""
    (out / "checkpoint-4").mkdir(parents=True)
    log = [{"step": step, "loss": 1 / step, "epoch": step / 4} for step in range(1, 5)]
    state = {
        "global_step": 4,
        "max_steps": 4,
        "num_train_epochs": 1,
        "log_history": [*log, {"step": 4, "train_runtime": 2.0}],
    }
    (out / "checkpoint-4" / "trainer_state.json").write_text(json.dumps(state))
    adapter = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "base_model_name_or_path": "Qwen/Qwen3-0.6B"}
    (out / "checkpoint-4" / "adapter_config.json").write_text(json.dumps(adapter))


def test_one_look_at_what_has_ended(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    trained(out)
    assert main(["watch", str(out), "--once", "--json", "--name", "theirs"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["name"], first["state"], first["step"], first["steps"]) == ("theirs", "finished", 4, 4)
    assert main(["watch", str(out), "--once", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    with Ledger.open(home / "ledger.db") as ledger:
        run = runs.find(ledger, "theirs")
        settings = runs.settings(ledger, run)
        assert summaries.of_run(ledger, run)["train/loss"].best == 0.25
        assert (settings["method.name"], settings["method.rank"], settings["model.base"]) == (
            "lora",
            8,
            "Qwen/Qwen3-0.6B",
        )
    # Deleting the run leaves what the other program wrote.
    assert main(["runs", "delete", "theirs", "--yes"]) == 0
    assert (out / "checkpoint-4" / "trainer_state.json").exists()


def test_what_it_cannot_follow_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for words, said in (
        ((str(tmp_path / "empty"), "--once"), "There is nothing to follow"),
        ((str(tmp_path / "gone"),), "cannot be watched"),
        ((str(tmp_path / "empty"), "--pid", str(2**22 + 1)), "There is no process"),
        ((str(tmp_path / "empty"), "--log", str(tmp_path / "none.log")), "There is no file"),
    ):
        assert main(["watch", *words]) == 2
        assert said in capsys.readouterr().err


def test_a_half_written_state_waits_and_the_one_before_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    trained(out)
    (out / "checkpoint-8").mkdir()
    (out / "checkpoint-8" / "trainer_state.json").write_text('{"global_step": 8, "log_his')
    os.utime(out / "checkpoint-8" / "trainer_state.json", (2e9, 2e9))
    assert main(["watch", str(out), "--once", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == 4
