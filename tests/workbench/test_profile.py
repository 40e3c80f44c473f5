"""`workbench profile`: what is written, what is said of it, and what is refused without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.profile_file import read
from tests.engine.importing.test_importing import AXOLOTL_QLORA
from workbench.cli import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "theirs.yml").write_text(AXOLOTL_QLORA)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_profile_is_written_and_every_key_is_told_of(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "import", "theirs.yml"]) == 1  # something was left
    said = capsys.readouterr()
    assert "made_up" in said.out and "4 keys could not be carried over" in said.err
    assert read(here / "theirs.toml").method.rank == 32
    assert "#   made_up = 3: it is not known here" in (here / "theirs.toml").read_text()
    assert (here / "theirs.toml").stat().st_mode & 0o777 == 0o600


def test_the_report_has_room_in_eighty_columns(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    main(["profile", "import", "theirs.yml"])
    said = capsys.readouterr().out.splitlines()
    assert max(map(len, said)) <= 80
    assert "✗ not carried over (4)" in said
    assert any(line.split() == ["lora_r", "32", "→", "method.rank"] for line in said)
    assert any(
        line.split()[:3] == ["training.seed", "42:", "their"] for line in said
    )  # not in the file: named by what it is here


def test_as_json_and_where_it_is_wanted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["profile", "import", "theirs.yml", "--to", "mine.toml", "--json", "--set", "method.rank=8"])
    said = json.loads(capsys.readouterr().out)
    assert (said["from"], said["profile"]) == ("axolotl", "mine.toml")
    assert {"key": "lora_r", "value": "32", "how": "same", "to": ["method.rank"], "why": ""} in said["keys"]
    assert read(here / "mine.toml").method.rank == 8


def test_all_carried_over_is_a_yes(here: Path) -> None:
    (here / "small.yaml").write_text(
        "base_model: m\nadapter: lora\nlora_r: 4\nlora_alpha: 8\nlearning_rate: 1e-4\ndatasets: [{path: d, type: alpaca}]"
    )
    assert main(["profile", "import", "small.yaml"]) == 0


def test_nothing_is_replaced_and_nothing_half_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "theirs.toml").write_text("mine")
    assert main(["profile", "import", "theirs.yml"]) == 2
    assert (here / "theirs.toml").read_text() == "mine"
    (here / "args.json").write_text('{"output_dir": "o", "learning_rate": 1e-4}')
    assert main(["profile", "import", "args.json"]) == 2
    assert "--set model.base=... --set data.0.source=..." in capsys.readouterr().err
    assert not (here / "args.toml").exists()
    (here / "data.jsonl").write_text("{}\n")
    assert (
        main(
            [
                "profile",
                "import",
                "args.json",
                "--set",
                "model.base=m",
                "--set",
                "data.0.source=data.jsonl",
                "--to",
                "sub.toml",
            ]
        )
        == 0
    )
    assert read(here / "sub.toml").data[0].source == str(here / "data.jsonl")
    (here / "bad.yml").write_text("base_model: m\nlearning_rate: fast\ndatasets: [{path: d, type: alpaca}]")
    assert main(["profile", "import", "bad.yml"]) == 2
    said = capsys.readouterr().err
    assert (
        "bad.yml: learning_rate, here training.learning_rate: found " in said
    )  # and not a line of what was not written
    assert "bad.toml" not in said
    assert not (here / "bad.toml").exists()


def test_a_value_is_explained_and_a_typo_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "explain", "method.rank"]) == 0
    said = capsys.readouterr().out
    assert "1 to 1,024" in said and "arXiv:2106.09685" in said and "measured by nobody" in " ".join(said.split())
    assert main(["profile", "explain", "data.0", "--json"]) == 0
    told = {each["key"]: each for each in json.loads(capsys.readouterr().out)}
    assert told.keys() == {"data.source", "data.subset", "data.split", "data.columns", "data.weight"}
    assert told["data.weight"]["default"] == 1.0 and told["data.weight"]["why"]
    assert main(["profile", "explain", "rank"]) == 0  # its last part is enough
    assert capsys.readouterr().out == said
    assert main(["profile", "explain"]) == 0
    every = capsys.readouterr().out.splitlines()
    assert max(map(len, every)) <= 100 and any(line.startswith("training.objective ") for line in every)
    assert main(["profile", "explain", "method.rnak"]) == 2
    assert "did you mean method.rank?" in capsys.readouterr().err
