"""`workbench evaluate` and `compare`: the real process for a real tiny run, then the verdict as table, JSON, report and exit code."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import jobs as processes
from engine import launch
from engine.ledger import Ledger, evaluations, jobs
from engine.ledger.states import ENDED
from tests.evaluated import answered, compared_run, decided, decisions, finished_run
from tests.tiny import tiny_profile, write_rows
from workbench.cli import main


def test_train_evaluate_compare(
    ledger: Ledger, tmp_path: Path, tiny_base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", 40)
    profile = tiny_profile(tiny_base, data, **{"training.epochs": 1, "split.test": 0.25})
    run = launch.start_training(ledger, profile, name="tiny", runs_folder=tmp_path / "runs")
    (training,) = jobs.of_run(ledger, run.id)
    assert _ended(ledger, training.uid) == "finished", training.log.read_text()

    own = tmp_path / "mine.jsonl"
    own.write_text('{"id": "a", "prompt": "Is the voice rough?", "choices": ["yes", "no"], "answer": "no"}\n')
    asked = ["evaluate", "tiny", "--suite", "test", "--suite", str(own), "--suite", "hallucination", "--json"]
    assert main([*asked, "--detach"]) == 0
    uid = json.loads(capsys.readouterr().out)["job"]
    _wait(lambda: jobs.get(ledger, uid).done >= 16)
    processes.interrupt(jobs.get(ledger, uid))
    assert _ended(ledger, uid) == "stopped"
    assert "goes on from the last answer" in jobs.get(ledger, uid).message
    assert any(one.finished is None for one in evaluations.of_run(ledger, run.id))
    kept = ledger.rows("SELECT evaluation, item, variant, answer FROM item")

    assert main(asked) == 0
    told = capsys.readouterr()
    assert set(kept) < set(ledger.rows("SELECT evaluation, item, variant, answer FROM item"))
    found = json.loads(told.out)["evaluations"]
    assert {one["suite"]: one["n"] for one in found} == {"test": 10, "mine": 1, "hallucination": 128}
    assert all(one["run"] == "tiny" and one["scores"] and one["base"] for one in found)
    assert re.search(r"finished .* (\d+)/\1 answers", told.err)

    code = main(["compare", "tiny", "--json"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    keys = {"suite", "metric", "run", "base", "value", "difference", "low", "high", "p", "n", "visible", "verdict"}
    assert all(keys <= row.keys() for row in rows) and {row["suite"] for row in rows} == {
        "test",
        "mine",
        "hallucination",
    }
    assert code == int(any(row["main"] and row["verdict"] == "worse" for row in rows))

    seen = tmp_path / "seen.jsonl"
    trained_on = json.loads((run.folder / "prepared" / "rows.json").read_text())["train"][0]
    seen.write_text(json.dumps({"id": "x", "prompt": "?", "row": trained_on}) + "\n")
    assert main(["evaluate", "tiny", "--suite", str(seen)]) == 2
    assert "1 of its 1 items are in the training rows of tiny" in capsys.readouterr().err


def _wait(holds: Callable[[], bool]) -> None:
    for _ in range(6000):  # looks are counted, not the time: a machine may stand still
        if holds():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to hold")


def _ended(ledger: Ledger, uid: str) -> str:
    _wait(lambda: jobs.seen_state(jobs.get(ledger, uid)) in ENDED)
    return str(jobs.seen_state(jobs.get(ledger, uid)))


def test_compare_says_the_verdict_first_and_exits_by_it(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared_run(ledger, tmp_path)
    assert main(["compare", "tuned", "--report", str(tmp_path / "report.html")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("tuned against its base: better 1, worse 0")
    assert any(line.startswith("+ better") and "+37.0" in line for line in out)
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    forgetful = finished_run(ledger, tmp_path, "forgetful")
    suite = decisions(100, "retention")
    answered(ledger, forgetful, suite, decided(100, range(50)))
    assert main(["compare", "forgetful"]) == 1
    assert "- worse" in capsys.readouterr().out


def test_nothing_to_compare_says_which_command_helps(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(ledger, tmp_path)
    assert main(["compare", "tuned"]) == 2
    assert "workbench evaluate tuned --suite" in capsys.readouterr().err
    assert main(["compare", "tunde"]) == 2
    assert "did you mean tuned?" in capsys.readouterr().err
    assert main(["evaluate", "tuned"]) == 2
    assert "Add --suite NAME, of consistency" in capsys.readouterr().err
    assert main(["evaluate", "tuned", "--suite", "retentoin"]) == 2
    assert "did you mean retention?" in capsys.readouterr().err


def test_ctrl_c_detaches_and_a_failure_is_told(
    ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_run(ledger, tmp_path)  # its base is no model: the process fails, and says why

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("workbench.cli.evaluate.time.sleep", interrupted)
        assert main(["evaluate", "tuned", "--suite", "retention"]) == 130
    assert "Detached: the evaluation goes on." in capsys.readouterr().err
    (job,) = jobs.of_run(ledger, run.id)
    assert _ended(ledger, job.uid) == "failed"
    assert main(["evaluate", "tuned", "--suite", "retention"]) == 2
    told = capsys.readouterr().err
    assert "There is no folder" in told and "Its log is" in told and "Traceback" not in told
