"""`workbench import` and `workbench runs export`, as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.ledger import Ledger, metrics, runs
from engine.ledger.metrics import Writer
from tests.engine.ledger.exchange.conftest import FILES, WANDB
from workbench.cli import main


@pytest.fixture
def home_ledger(ledger: Ledger, tmp_path: Path) -> Ledger:
    """The default ledger with a run of three steps."""
    run = runs.create(ledger, name="speech", runs_folder=tmp_path, profile="", settings={"method.rank": 8})
    with Writer(ledger, run.id) as writer:
        for step in (1, 2, 3):
            writer.log(step, {"train/loss": 1.0 / step})
    return ledger


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """What the last command printed as JSON."""
    found = json.loads(capsys.readouterr().out)
    return found if isinstance(found, list) else [found]


def test_import_of_a_folder_with_several_kinds(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(FILES), "--tag", "old", "--json"]) == 0
    captured = capsys.readouterr()
    (done,) = json.loads(captured.out)
    assert (done["kind"], done["name"], done["new"], done["troubles"]) == ("wandb", "first", True, [])
    assert "--as tensorboard" in captured.err
    assert main(["import", str(FILES), "--as", "tensorboard", "--json"]) == 0
    assert [each["name"] for each in printed(capsys)] == ["tb", "torch"]
    assert main(["import", str(FILES), "--json"]) == 0
    (again,) = printed(capsys)
    assert (again["new"], again["changed"], again["points"]) == (False, False, 0)
    assert len(runs.listed(ledger)) == 3
    assert [row[0] for row in ledger.rows("SELECT name FROM tag ORDER BY 1")] == ["medical", "old", "two-words"]


def test_an_imported_run_is_shown_and_cannot_be_resumed(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(FILES), "--as", "tensorboard"]) == 0
    capsys.readouterr()
    assert main(["runs", "show", "tb"]) == 0
    shown = capsys.readouterr().out
    assert "None" not in shown and "does not tell how it ended" in shown and "tensorboard" in shown
    assert main(["runs", "show", "tb", "--json"]) == 0
    assert printed(capsys)[0]["settings"] == {"training.learning_rate": 1e-4, "training.epochs": 3}
    for verb, said in (
        (["resume", "tb"], "was not trained by Workbench"),
        (["show", "tb", "--profile"], "has no profile"),
    ):
        assert main(["runs", *verb]) == 2
        assert said in capsys.readouterr().err


def test_import_of_a_half_written_file_takes_what_is_whole(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / WANDB.name
    path.write_bytes(WANDB.read_bytes()[:30000])
    assert main(["import", str(path), "--name", "mine"]) == 0
    captured = capsys.readouterr()
    assert "half written" in captured.err and "mine" in captured.out
    run = runs.find(ledger, "mine")
    few = len(metrics.curve(ledger, run.id, "train/loss").steps)
    shutil.copy(WANDB, path)
    assert main(["import", str(path)]) == 0
    assert 0 < few < len(metrics.curve(ledger, run.id, "train/loss").steps) == 12


def test_one_bad_file_does_not_stop_the_others(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, empty = tmp_path / "run-bad.wandb", tmp_path / "empty.csv"
    bad.write_text("not a log")
    empty.write_text("")
    assert main(["import", str(bad), str(empty), str(tmp_path / "gone"), str(WANDB)]) == 2
    captured = capsys.readouterr()
    assert "is not a wandb run" in captured.err and "nothing whole" in captured.err and "There is no" in captured.err
    assert [run.name for run in runs.listed(ledger)] == ["first"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json", ".db"])
def test_what_is_exported_can_be_imported_elsewhere(
    home_ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    file, other = tmp_path / f"speech{suffix}", tmp_path / "other.db"
    assert main(["runs", "export", "speech", "--to", str(file), "--json"]) == 0
    (told,) = printed(capsys)
    assert told["bytes"] == file.stat().st_size and file.stat().st_mode & 0o777 == 0o600
    for new in (True, False):
        assert main(["import", str(file), "--ledger", str(other), "--json"]) == 0
        (done,) = printed(capsys)
        assert (done["name"], done["new"], done["changed"]) == ("speech", new, new)
    with Ledger.open(other) as opened:
        run = runs.find(opened, "speech")
        assert metrics.curve(opened, run.id, "train/loss").values.tolist() == [1.0, 0.5, 1.0 / 3]
        assert runs.settings(opened, run) == ({} if suffix in (".csv", ".parquet") else {"method.rank": 8})


def test_runs_that_pass_a_filter_are_exported(
    home_ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.create(home_ledger, name="empty", runs_folder=tmp_path, profile="", settings={})
    file = tmp_path / "all.csv"
    assert main(["runs", "export", "--filter", "name=empty", "--to", str(file)]) == 0
    assert "no metrics" in capsys.readouterr().err
    assert main(["runs", "export", "--filter", "speech", "--to", str(file), "--force"]) == 0
    assert "speech: " in capsys.readouterr().err
    assert main(["runs", "export", "--filter", "state=lost", "--to", str(tmp_path / "none.csv")]) == 1
    assert not (tmp_path / "none.csv").exists()
    assert main(["runs", "export", "--to", str(tmp_path / "none.csv")]) == 2


def test_a_name_that_comes_too_late_is_said(
    home_ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log.csv"
    file.write_text("step,loss\n1,2\n")
    for name, told in (("first", ""), ("second", "--name was passed over"), ("first", "")):
        assert main(["import", str(file), "--name", name]) == 0
        said = capsys.readouterr().err
        assert told in said and bool(told) == bool(said)


def test_a_file_that_is_there_is_replaced_only_when_told(
    home_ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in (".csv", ".db"):
        file = tmp_path / f"speech{suffix}"
        file.write_text("mine")
        assert main(["runs", "export", "speech", "--to", str(file)]) == 2
        assert "--force" in capsys.readouterr().err and file.read_text() == "mine"
        assert main(["runs", "export", "speech", "--to", str(file), "--force"]) == 0
        assert file.read_bytes()[:4] != b"mine"
    assert main(["runs", "export", "speech", "--to", str(tmp_path / "speech.cvs")]) == 2
    assert "did you mean .csv" in capsys.readouterr().err
    assert main(["runs", "export", "speech", "--to", str(tmp_path / "gone" / "speech.csv")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_portable_ledger_opens_where_nothing_may_be_written(home_ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "speech.db"
    assert main(["runs", "export", "speech", "--to", str(file)]) == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("speech")] == ["speech.db"]
    with Ledger.open(file, read_only=True) as opened:
        assert [run.name for run in runs.listed(opened)] == ["speech"]
