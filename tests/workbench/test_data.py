"""`workbench data` as a script uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.profile_file import dump
from tests.tiny import tiny_profile, write_rows
from workbench.cli import main

KEYS = {"rows", "fingerprint", "shape", "columns", "lengths", "findings", "duplicates"}


def test_clean_data_exit_0_and_keep_their_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", str(write_rows(tmp_path / "rows.jsonl", 20)), "--json"]) == 0
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told.keys() >= KEYS
    assert (told["rows"], told["shape"], told["lengths"]["unit"]) == (20, "instruction+input", "characters")
    assert "characters" in printed.err


def test_with_a_profile_in_tokens_and_split(
    tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 20)
    settings = tmp_path / "profile.toml"
    settings.write_text(dump(tiny_profile(tiny_base, rows, **{"split.test": 0.2})))
    assert main(["data", str(rows), "--profile", str(settings), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["lengths"]["unit"] == "tokens"
    assert told["split"] == {"train": 12, "validation": 4, "test": 4}


def test_a_base_out_of_reach_leaves_the_rest_of_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 20)
    settings = tmp_path / "profile.toml"
    settings.write_text(dump(tiny_profile(Path("somebody/model"), rows)))
    assert main(["data", str(rows), "--profile", str(settings), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["split"] == {"train": 15, "validation": 5, "test": 0}
    assert "somebody/model" in printed.err


def test_problems_exit_1_and_are_named(tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 20)
    with rows.open("a") as file:
        file.write('{"instruction": \n')
    assert main(["data", str(rows), "--model", str(tiny_base)]) == 1
    printed = capsys.readouterr()
    assert "rows.jsonl:21" in printed.out
    assert "An error" in printed.err


@pytest.mark.parametrize(
    "arguments", [["/nowhere.jsonl"], [".", "--profile", "/nowhere.toml"], ["x.jsonl", "--model", "/no"]]
)
def test_what_cannot_run_exits_2(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "x.jsonl", 3)
    assert main(["data", *arguments]) == 2


def test_how_often_each_source_of_a_mixture_is_seen(
    tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny_profile(tiny_base, write_rows(tmp_path / "a.jsonl", 20), **{"split.validation": 0})
    half = settings.data[0].model_copy(update={"source": str(write_rows(tmp_path / "b.jsonl", 12)), "weight": 0.5})
    profile = tmp_path / "mixed.toml"
    profile.write_text(dump(settings.model_copy(update={"data": (settings.data[0], half)})))
    assert main(["data", str(profile), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(part["source"], part["rows"], part["seen"]) for part in told["mixture"]] == [
        ("a.jsonl", 20, 20),
        ("b.jsonl", 12, 6),
    ]
    assert main(["data", str(profile)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["b.jsonl", "0.5", "12", "6", "23.1%"] for line in lines)
