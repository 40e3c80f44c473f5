"""A real Trainer followed live, killed, resumed; and the watch itself killed and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine.errors import Problem
from engine.ledger import Ledger, checkpoints, jobs, metrics, runs, summaries
from engine.ledger.states import State
from engine.watching.watch import Watch
from tests.engine.watching.conftest import Start, logged, until

OURS = {
    "loss": "train/loss",
    "grad_norm": "train/grad_norm",
    "learning_rate": "train/rate",
    "eval_loss": "validation/loss",
}


@contextmanager
def watching(ledger: Ledger, out: Path, **options: int) -> Iterator[Watch]:
    """The folder under watch, until the end."""
    watch = Watch(ledger, out, runs_folder=out.parent / "runs", **options)
    try:
        yield watch
    finally:
        watch.close()


def looked(watch: Watch) -> runs.Run:
    """The run after another look."""
    run = watch.look()
    assert run is not None
    return run


def is_all_there(ledger: Ledger, run: runs.Run, out: Path, steps: int) -> bool:
    """Whether every point that Trainer logged stands in the ledger once and no other does; event files hold them as float32."""
    for theirs, ours in OURS.items():
        curve = metrics.curve(ledger, run.id, ours)
        expected = logged(out, steps)[theirs]
        # The last validation comes behind the last checkpoint.
        assert set(curve.steps.tolist()) - {steps} == set(expected) - {steps}, ours
        for step, value in zip(curve.steps.tolist(), curve.values.tolist(), strict=True):
            if step in expected:
                assert value == pytest.approx(expected[step], rel=1e-6), (ours, step)
    summary = summaries.of_run(ledger, run)
    assert summary["train/loss"].last_step == steps
    return True


def test_a_trainer_is_followed_killed_and_resumed_as_one_run(ledger: Ledger, out: Path, start: Start) -> None:
    trainee = start(30, "pause=14")
    with watching(ledger, out) as watch:
        until(lambda: (run := watch.look()) and run.step >= 14, "step 14")
        run = looked(watch)
        assert (run.state, run.step, run.steps, run.source) == (State.RUNNING, 14, 30, "watched")
        assert run.ends is not None
        assert watch.process is not None
        assert watch.process.pid == trainee.pid
        job = jobs.newest_training(ledger, run.id)
        assert job is not None
        assert job.pid == trainee.pid
        assert metrics.curve(ledger, run.id, "train/loss").steps.tolist() == [2, 4, 6, 8, 10, 12, 14]
        assert [saved.step for saved in checkpoints.of_run(ledger, run.id)] == [10]
        assert runs.settings(ledger, run)["training.learning_rate"] == 1e-3

        trainee.kill()
        trainee.wait()
        assert looked(watch).state is State.LOST

    (out / "go").touch()
    resumed = start(30, "resume")
    with watching(ledger, out) as watch:
        until(lambda: (seen := watch.look()) and seen.state is State.FINISHED, "the end of the resumed run")
        again = looked(watch)
    assert resumed.wait() == 0
    assert again.uid == run.uid
    assert len(runs.listed(ledger)) == 1
    assert (again.step, again.steps) == (30, 30)
    assert is_all_there(ledger, again, out, 30)
    assert [saved.step for saved in checkpoints.of_run(ledger, again.id)] == [10, 20, 30]
    assert [jobs.seen_state(job) for job in jobs.of_run(ledger, again.id)] == [State.LOST, State.FINISHED]

    (out / "go").unlink()
    anew = start(30, "pause=0")
    with watching(ledger, out) as watch:
        # Until the process is found what lies there is the old run; then nobody knows yet whether it goes on with that.
        until(lambda: watch.look() is None and watch.process, "the process of another run, of which nothing is known")
        (out / "go").touch()
        until(lambda: (seen := watch.look()) and seen.uid != run.uid, "another run")
    assert anew.poll() in (None, 0)
    assert [(each.name, each.state is State.FINISHED) for each in runs.listed(ledger)][1:] == [("out", True)]
    assert [job.state for job in jobs.of_run(ledger, again.id)] == [State.RUNNING, State.FINISHED]


def test_a_watch_that_is_killed_goes_on_without_duplicates(home: Path, out: Path, start: Start) -> None:
    start(30, "pause=14")
    command = [sys.executable, "-m", "workbench", "watch", str(out)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until((home / "ledger.db").exists, "the ledger")
        with Ledger.open(home / "ledger.db") as ledger:
            until(lambda: any(run.step == 14 for run in runs.listed(ledger)), "the watch at step 14")
            assert len(metrics.curve(ledger, runs.listed(ledger)[0].id, "train/loss").steps) == 7
            second = subprocess.run([*command, "--once"], stderr=subprocess.PIPE, text=True, check=False)
            assert second.returncode == 2
            assert "is watched already" in second.stderr
            first.send_signal(signal.SIGKILL)
            first.wait()
            # It is the trainee's life that counts, not the watch's.
            assert [run.state for run in runs.listed(ledger)] == [State.RUNNING]
            (out / "go").touch()
            again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
            assert (again.returncode, '"state": "finished"' in again.stdout) == (0, True), again.stderr
            (run,) = runs.listed(ledger)
            assert is_all_there(ledger, run, out, 30)
            assert np.all(np.diff(metrics.curve(ledger, run.id, "train/loss").times) >= 0)
    finally:
        first.kill()
        first.wait()


def test_without_trackers_output_and_checkpoints_tell_all(ledger: Ledger, out: Path, start: Start) -> None:
    trainee = start(20, "print", "pause=14")
    with watching(ledger, out, pid=trainee.pid) as watch:
        until(lambda: (run := watch.look()) and run.step >= 14, "step 14")
        run = looked(watch)
        assert (run.state, run.steps) == (State.RUNNING, 20)
        curve = metrics.curve(ledger, run.id, "train/loss")
        assert curve.steps.tolist() == [2, 4, 6, 8, 10, 12, 14]
        expected = logged(out, 10)["loss"]  # to step 10 from the checkpoint, the rest as it was printed
        assert [curve.values[place] for place in range(5)] == [expected[step] for step in (2, 4, 6, 8, 10)]
        (out / "go").touch()
        until(lambda: looked(watch).state is State.FINISHED, "the end")
        assert is_all_there(ledger, looked(watch), out, 20)


def test_what_fails_is_failed_with_its_cause(ledger: Ledger, out: Path, start: Start) -> None:
    trainee = start(20, "print", "fail=6")
    with watching(ledger, out, pid=trainee.pid) as watch:
        trainee.wait()
        run = looked(watch)
    assert (run.state, run.cause, run.step) == (State.FAILED, "RuntimeError", 6)
    job = jobs.newest_training(ledger, run.id)
    assert job is not None
    assert job.message == "RuntimeError: the trainee was told to fail"


def test_what_cannot_be_watched_is_refused(ledger: Ledger, out: Path) -> None:
    with pytest.raises(Problem, match="cannot be watched"), watching(ledger, out / "nothing"):
        pass
    with pytest.raises(Problem, match="no process"), watching(ledger, out, pid=2**22 + 1):
        pass
    with watching(ledger, out) as watch:
        assert watch.look() is None
        assert runs.listed(ledger) == []
        with pytest.raises(Problem, match="watched already"), watching(ledger, out):
            pass
