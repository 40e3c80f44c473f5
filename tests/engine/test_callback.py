"""The callback in somebody's own training: what Trainer logs is in the ledger, and no fault of ours is Trainer's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from engine.callback import WorkbenchCallback
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


@pytest.fixture
def arguments(out: Path) -> TrainingArguments:
    return TrainingArguments(output_dir=str(out), report_to="none")


CONTROL: Final = TrainerControl()


def resumed(callback: WorkbenchCallback, step: int) -> TrainerState:
    """Trainer's state at `step`, with what it keeps of the callback."""
    kept: Any = {"WorkbenchCallback": callback.state()}
    return TrainerState(global_step=step, max_steps=2, stateful_callbacks=kept)


def test_two_trainings_of_one_program_are_two_runs(ledger: Ledger, arguments: TrainingArguments) -> None:
    callback = WorkbenchCallback(ledger=ledger.path)
    for _ in range(2):
        state = resumed(
            callback, 0
        )  # Trainer asks its callbacks at the beginning too, and this one knows a run by then
        callback.on_train_begin(arguments, state, CONTROL)
        state.global_step = 2
        callback.on_log(arguments, state, CONTROL, logs={"loss": 0.5})
        callback.on_train_end(arguments, state, CONTROL)
    found = runs.listed(ledger)
    assert [(run.state, run.step) for run in found] == [(State.FINISHED, 2)] * 2
    assert [metrics.curve(ledger, run.id, "train/loss").values.tolist() for run in found] == [[0.5]] * 2


def test_a_checkpoint_of_a_run_that_is_still_at_work_begins_another(
    ledger: Ledger, arguments: TrainingArguments
) -> None:
    first, second = WorkbenchCallback(ledger=ledger.path), WorkbenchCallback(ledger=ledger.path)
    begun = resumed(first, 0)
    first.on_train_begin(arguments, begun, CONTROL)
    state = resumed(first, 1)
    second.on_train_begin(arguments, state, CONTROL)
    assert first.uid != second.uid
    second.on_train_end(arguments, state, CONTROL)
    assert {run.uid: run.state for run in runs.listed(ledger)} == {
        first.uid: State.RUNNING,
        second.uid: State.FINISHED,
    }
    first.on_train_end(arguments, begun, CONTROL)


def test_checkpoints_that_trainer_has_removed_are_forgotten(ledger: Ledger, arguments: TrainingArguments) -> None:
    callback = WorkbenchCallback(ledger=ledger.path)
    state = resumed(callback, 0)
    callback.on_train_begin(arguments, state, CONTROL)
    for step in (1, 2):
        state.global_step = step
        folder = Path(str(arguments.output_dir)) / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        callback.on_save(arguments, state, CONTROL)
        (run,) = runs.listed(ledger)
        assert [saved.step for saved in checkpoints.of_run(ledger, run.id)] == [step]
        folder.rmdir()
    callback.on_train_end(arguments, state, CONTROL)
