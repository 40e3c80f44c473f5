"""`workbench models`: what a run can begin from, as a table and as JSON, and what a profile needs with each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.profile_file import dump
from tests.tiny import tiny_profile, write_rows
from workbench.cli import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(tiny_base, tmp_path / "mine")
    profile = tiny_profile(tmp_path / "mine", write_rows(tmp_path / "rows.jsonl", 16), **{"hardware.device": "auto"})
    (tmp_path / "tiny.toml").write_text(dump(profile))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_models_here_and_known_ones_without_a_ledger(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    told = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    mine = told[str(here / "mine")]
    assert (mine["where"], mine["here"], mine["family"], mine["chat_template"], mine["needs_mib"]) == (
        "folder",
        True,
        "llama",
        True,
        None,
    )
    assert told["meta-llama/Llama-3.2-1B"]["gated"] and not told["meta-llama/Llama-3.2-1B"]["here"]


def test_with_a_profile_each_says_what_it_would_need(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "tiny.toml", "--gpu", "RTX 3060", "--json"]) == 0
    told = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert told[str(here / "mine")]["fits"] is True
    assert told["meta-llama/Llama-3.3-70B-Instruct"]["fits"] is False
    assert told["Qwen/Qwen3-0.6B"]["needs_mib"] < told["Qwen/Qwen3-4B"]["needs_mib"]
    assert main(["models", "tiny.toml"]) == 0
    said = capsys.readouterr()
    assert "needs GiB" in said.out and "On CPU" in said.err
