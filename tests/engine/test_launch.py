"""Starting, resuming and evaluating: rows, folder and process, and what is refused with the ledger left as it was."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from engine import launch
from engine.errors import Problem
from engine.ledger import Ledger, jobs, runs
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from engine.profile import Profile
from engine.profile_file import dump, read
from tests.tiny import tiny_profile, write_rows

PATIENCE = 120.0  # seconds for a process that takes a few


@pytest.fixture
def profile(tiny_base: Path, tmp_path: Path) -> Profile:
    rows = write_rows(tmp_path / "rows.jsonl", 32)
    return tiny_profile(tiny_base, rows, **{"training.max_steps": 2, "training.micro_batch": "auto"})


@pytest.fixture
def idle(ledger: Ledger, profile: Profile, tmp_path: Path) -> Run:
    """A run in the ledger whose process never was."""
    run = runs.create(ledger, name="idle", runs_folder=tmp_path / "runs", profile=dump(profile), settings={})
    run.folder.mkdir(parents=True)
    return run


def ended(ledger: Ledger, run: Run) -> Run:
    """The run when no process works on it any more."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = runs.find(ledger, run.uid)
        if found.state not in LIVE:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{run.name} is still {runs.find(ledger, run.uid).state}")


def test_a_run_is_started_and_ends_by_itself(ledger: Ledger, profile: Profile, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    run = launch.start_training(ledger, profile, name="first", runs_folder=folder)
    assert run.state in LIVE
    assert (run.name, run.steps, run.folder.parent) == ("first", 2, folder)
    assert stat.S_IMODE(run.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((run.folder / "profile.toml").stat().st_mode) == 0o600
    written = read(run.folder / "profile.toml")
    assert written.training.micro_batch == 4
    assert run.predicted_mib is None, "the CPU's estimate is a lower bound, not a prediction"
    assert runs.document(ledger, run).profile == (run.folder / "profile.toml").read_text()
    assert runs.settings(ledger, run)["training.max_steps"] == 2
    with pytest.raises(Problem) as caught:
        launch.resume(ledger, run)
    assert caught.value.code == "running"
    done = ended(ledger, run)
    log = (run.folder / "log.txt").read_text()
    assert done.state is State.FINISHED, log
    with pytest.raises(Problem, match="has finished"):
        launch.resume(ledger, done)


def test_no_room_for_checkpoints_leaves_no_run(
    ledger: Ledger, profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch.Resolved, "disk_bytes", 1e18)
    with pytest.raises(Problem, match="GB are free") as caught:
        launch.start_training(ledger, profile, name="big", runs_folder=tmp_path / "runs")
    assert caught.value.code == "disk"
    assert runs.listed(ledger) == []


def test_a_folder_that_cannot_be_made_leaves_no_run(ledger: Ledger, profile: Profile, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match="cannot be made") as caught:
        launch.start_training(ledger, profile, name="lost", runs_folder=tmp_path / "file" / "runs")
    assert caught.value.code == "disk"
    assert runs.listed(ledger) == []


def test_what_cannot_be_resolved_leaves_no_run(ledger: Ledger, profile: Profile, tmp_path: Path) -> None:
    wrong = profile.model_copy(update={"model": profile.model.model_copy(update={"base": "./nothing"})})
    with pytest.raises(Problem, match="There is no folder"):
        launch.start_training(ledger, wrong, name="none", runs_folder=tmp_path / "runs")
    assert runs.listed(ledger) == []
    assert not (tmp_path / "runs").exists()


def test_a_run_whose_folder_is_gone_is_not_resumed(ledger: Ledger, idle: Run) -> None:
    job = jobs.create(ledger, "train", run=idle.id, argument={}, log=idle.folder / "log.txt")
    jobs.set_state(ledger, job, State.FAILED, cause="OOM")
    idle.folder.rmdir()
    with pytest.raises(Problem, match="is gone"):
        launch.resume(ledger, runs.find(ledger, idle.uid))


def test_an_evaluation_needs_results_and_suites(ledger: Ledger, idle: Run) -> None:
    with pytest.raises(Problem, match="no result"):
        launch.start_evaluation(ledger, [idle], ["test"])
    with pytest.raises(Problem, match="No suite"):
        launch.start_evaluation(ledger, [idle], [])
    with pytest.raises(Problem, match="No run"):
        launch.start_evaluation(ledger, [], ["test"])


def test_a_process_that_cannot_start_leaves_a_failed_run_that_says_why(ledger: Ledger, idle: Run) -> None:
    (idle.folder / "log.txt").mkdir()  # the log cannot be opened
    with pytest.raises(Problem, match="Cannot write the log"):
        launch._start(ledger, idle, queue=False)
    found = runs.find(ledger, idle.uid)
    assert (found.state, found.cause) == (State.FAILED, "start")
