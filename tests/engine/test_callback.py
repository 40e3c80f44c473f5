"""The callback in somebody's own training: what Trainer logs is in the ledger, and no fault of ours is Trainer's."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import Problem
from engine.ledger import Ledger, checkpoints, events, jobs, metrics, runs
from engine.ledger.states import State
from engine.watching.watch import Watch
from tests.engine.watching.conftest import Start, logged, out, start, until

__all__ = ["out", "start"]  # fixtures

OURS = {
    "loss": "train/loss",
    "grad_norm": "train/grad_norm",
    "learning_rate": "train/rate",
    "eval_loss": "validation/loss",
}


def test_a_run_logs_itself_and_goes_on_as_the_same_after_a_kill(ledger: Ledger, out: Path, start: Start) -> None:
    trainee = start(30, "own", "pause=14")
    until(lambda: any(run.step for run in runs.listed(ledger)), "a step")
    (run,) = runs.listed(ledger)
    assert (run.name, run.state, run.steps, run.source) == ("out", State.RUNNING, 30, "trainer")
    until(lambda: metrics.curve(ledger, run.id, "train/loss").steps.tolist()[-1:] == [14], "the metrics of step 14")
    watch = Watch(ledger, out, runs_folder=out.parent / "runs", pid=trainee.pid)
    with pytest.raises(Problem, match="logs itself as out"):
        watch.look()
    watch.close()
    trainee.kill()
    trainee.wait()
    assert runs.find(ledger, run.uid).state is State.LOST
    (out / "go").touch()
    assert start(30, "own", "resume").wait() == 0
    (again,) = runs.listed(ledger)
    assert (again.uid, again.state, again.step) == (run.uid, State.FINISHED, 30)
    for theirs, ours in OURS.items():
        curve = metrics.curve(ledger, run.id, ours)
        expected = logged(out, 30)[theirs]
        found = dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
        assert {step: found[step] for step in expected} == expected, ours
        assert len(found) - len(expected) <= (theirs == "eval_loss"), (
            "the last validation comes behind the last checkpoint"
        )
    assert [saved.step for saved in checkpoints.of_run(ledger, run.id)] == [10, 20, 30]
    assert [jobs.seen_state(job) for job in jobs.of_run(ledger, run.id)] == [State.LOST, State.FINISHED]
    settings = runs.settings(ledger, run)
    assert settings["training.learning_rate"] == 1e-3
    assert settings["method.name"] == "full"


def test_what_ends_the_program_is_the_run_s_end(ledger: Ledger, out: Path, start: Start) -> None:
    assert start(20, "own", "fail=6").wait() == 1
    (run,) = runs.listed(ledger)
    assert (run.state, run.cause) == (State.FAILED, "RuntimeError")
    assert "told to fail" in events.of_kind(ledger, run.id, "failed")[0].text


def test_a_ledger_that_cannot_be_opened_does_not_end_a_training(home: Path, out: Path, start: Start) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "ledger.db").write_text("not a database, and long enough to be looked at" * 40)
    assert start(4, "own").wait() == 0
    assert (out.parent / "out.txt").read_text().count("Workbench does not log this run as it should") == 1
