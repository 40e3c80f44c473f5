"""Starting, resuming and evaluating: rows, folder and process, and what is refused with the ledger left as it was."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import gpu, launch, removal, turns, waiting
from engine import jobs as processes
from engine.errors import Problem
from engine.fit import recorded
from engine.ledger import Ledger, jobs, orders, queue, runs
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from engine.profile import Hardware, Profile
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
    document = runs.document(ledger, run)
    assert document.profile == (run.folder / "profile.toml").read_text()
    predicted = recorded.of(document.environment).predicted
    assert predicted is not None and predicted.allocated_mib and predicted.process_mib
    assert predicted.context_mib == pytest.approx(predicted.process_mib - (predicted.reserved_mib or 0))
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
    assert caught.value.code == "disk" and caught.value.do.startswith("Free some space")
    assert runs.listed(ledger) == []
    binned = tmp_path / "runs" / removal.BIN / "uid" / "adapter"
    binned.mkdir(parents=True)
    (binned / "weights").write_bytes(b"x" * 2_000_000)
    with pytest.raises(Problem) as caught:
        launch.start_training(ledger, profile, name="big", runs_folder=tmp_path / "runs")
    assert caught.value.do.startswith("Empty the bin, which holds 2.0 MB: workbench runs purge.")


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


def standing(
    ledger: Ledger, profile: Profile, folder: Path, name: str, state: State, *, cause: str = "", queue: bool = False
) -> Run:
    """A run whose last job ended in `state`; a live state is that of a process that is gone."""
    run = runs.create(ledger, name=name, runs_folder=folder, profile=dump(profile), settings={})
    run.folder.mkdir(parents=True)
    argument: dict[str, object] = {"queue": queue}
    job = jobs.sign_in(
        ledger, jobs.create(ledger, "train", run=run.id, argument=argument, log=run.folder / "log.txt"), pid=1
    )
    jobs.set_state(ledger, job, state, cause=cause)
    with ledger.transaction() as connection:
        connection.execute("UPDATE job SET pid_started = pid_started + 1 WHERE id = ?", (job.id,))
    return run


def test_after_a_reboot_all_that_was_not_stopped_on_purpose_is_queued_again_in_its_order(
    ledger: Ledger, profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr("engine.jobs.spawn", lambda ledger, job: started.append(job.uid))
    folder = tmp_path / "runs"
    standing(ledger, profile, folder, "second in the queue", State.QUEUED, queue=True)
    standing(ledger, profile, folder, "at work", State.RUNNING)
    standing(ledger, profile, folder, "preempted", State.STOPPED, cause="signal")
    standing(ledger, profile, folder, "stopped by a person", State.STOPPED, cause="order")
    standing(ledger, profile, folder, "failed", State.FAILED, cause="OOM at 3")
    standing(ledger, profile, folder, "finished", State.FINISHED)
    told = standing(ledger, profile, folder, "told to stop when it died", State.RUNNING)
    orders.give(ledger, told.id, "stop")
    gone = standing(ledger, profile, folder, "folder gone", State.RUNNING)
    gone.folder.rmdir()
    merged = standing(ledger, profile, folder, "another machine's", State.STOPPED, cause="signal")
    merged.folder.rmdir()
    with ledger.transaction() as connection:
        connection.execute("UPDATE job SET host = 'elsewhere', boot_id = 'other' WHERE run = ?", (merged.id,))
    resumed = launch.resume_all(ledger)
    assert [(each.run.name, each.was, each.problem is None) for each in resumed] == [
        ("at work", State.LOST, True),
        ("preempted", State.STOPPED, True),
        ("folder gone", State.LOST, False),
        ("second in the queue", State.LOST, True),
    ]
    assert [each.name for each in queue.waiting(ledger)] == ["at work", "preempted", "second in the queue"]
    assert len(started) == 3
    assert [each.run.name for each in launch.resume_all(ledger, failed=True)] == ["failed", "folder gone"]


def test_a_queued_run_that_names_no_gpu_may_take_any_that_does_as_well_and_resumes_so(
    ledger: Ledger, profile: Profile, idle: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.jobs.spawn", lambda ledger, job: None)
    job = launch._start(ledger, idle, queue=True, any_of=("GPU-a", "GPU-b", "GPU-c"))
    assert json.loads(job.argument)["any_of"] == ["GPU-a", "GPU-b", "GPU-c"]
    jobs.set_state(ledger, job, State.STOPPED, cause="signal")
    again = launch.resume(ledger, runs.find(ledger, idle.uid), queue=True)
    assert json.loads(again.argument)["any_of"] == ["GPU-a", "GPU-b", "GPU-c"]
    there = tuple(
        gpu.Gpu(uuid=f"GPU-{letter}", index=0, name="T4") for letter in "bc"
    )  # GPU-a was taken out of the machine
    monkeypatch.setattr(waiting, "gpus", lambda: there)
    monkeypatch.setattr(turns, "gpus", lambda: there)
    hardware = Hardware(device="cuda", gpus=("GPU-a",))
    with (
        turns.turn([("GPU-b",)], queue=True, wait=lambda what: None),
        waiting.turn_of(ledger, again, idle, hardware) as taken,
    ):
        assert taken == ("GPU-c",)
        assert jobs.get(ledger, again.uid).places == '["GPU-c"]'


def test_queued_runs_wait_in_the_order_that_is_shown_and_a_killed_one_blocks_nobody(
    ledger: Ledger, profile: Profile, tmp_path: Path
) -> None:
    """Real processes wait for a CPU that this one holds, change places, are stopped, are killed."""
    folder = tmp_path / "runs"
    with turns.turn([("cpu",)], queue=True, wait=lambda what: None):
        first, second, third = (
            launch.start_training(ledger, profile, name=name, runs_folder=folder, queue=True) for name in "abc"
        )
        until(lambda: said(ledger, first).startswith("waiting for the CPU: process "))
        until(lambda: (said(ledger, second), said(ledger, third)) == ("waiting behind a",) * 2)
        queue.move(ledger, third.id, "first")
        until(lambda: (said(ledger, first), said(ledger, second)) == ("waiting behind c",) * 2)
        processes.interrupt(jobs.of_run(ledger, third.id)[-1])
        until(lambda: said(ledger, first).startswith("waiting for the CPU: process "))
        os.kill(jobs.of_run(ledger, first.id)[-1].pid or 0, signal.SIGKILL)
        until(lambda: said(ledger, second).startswith("waiting for the CPU: process "))
        orders.give(ledger, second.id, "stop")
        ended(ledger, second)
    states = [runs.find(ledger, run.uid) for run in (first, second, third)]
    assert [(run.state, run.cause) for run in states] == [
        (State.LOST, ""),
        (State.STOPPED, "order"),
        (State.STOPPED, "signal"),
    ]


def said(ledger: Ledger, run: Run) -> str:
    job = jobs.newest_training(ledger, run.id)
    return job.doing if job else ""


def until(holds: Callable[[], bool]) -> None:
    for _ in range(round(PATIENCE / 0.05)):  # looks are counted, not the time: a machine may stand still
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to hold")
