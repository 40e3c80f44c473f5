"""Stopping at any moment: by signal while paused or validating, by a crash, by a disk that fills in the middle of a file."""

from __future__ import annotations

import os
import signal
from typing import Any

from engine import folders
from engine.ledger import checkpoints, events, jobs, orders, runs
from engine.ledger.states import State
from engine.train import checkpoint
from tests.engine.train import children
from tests.engine.train.conftest import Bench, result_bytes
from tests.engine.train.test_job import RARE, until
from tests.engine.train.test_resume import _Keep


def test_a_signal_while_paused_stops_after_a_checkpoint(bench: Bench) -> None:
    run = bench.run(bench.profile(**RARE))
    job = bench.job(run)
    child = children.start(bench.ledger.path, job.uid, prepare=bench.at_step(run, {2: "pause"}))
    until(lambda: jobs.get(bench.ledger, job.uid).state is State.PAUSED)
    assert child.pid
    os.kill(child.pid, signal.SIGTERM)
    children.finish(child)
    assert jobs.get(bench.ledger, job.uid).state is State.STOPPED
    assert [point.step for point in checkpoints.of_run(bench.ledger, run.id)] == [2]


def _signalled_while_validating() -> None:
    from engine.train import validate
    from engine.train.scorer import Scorer

    forward, measure = Scorer.forward, validate.validation_loss
    validating = sent = False

    def measuring(*arguments: Any, **named: Any) -> dict[str, float]:
        nonlocal validating
        validating = True  # the model is asked at the start as well
        return measure(*arguments, **named)

    def scoring(scorer: Scorer, *arguments: object) -> object:
        nonlocal sent
        if validating and not sent:
            sent = True
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(scorer, *arguments)  # type: ignore[arg-type]

    validate.validation_loss = measuring
    Scorer.forward = scoring  # type: ignore[method-assign, assignment]


def test_a_signal_while_validating_does_not_wait_for_its_end_and_a_resume_validates_again(bench: Bench) -> None:
    whole = bench.trained("whole")
    run = bench.run(bench.profile(), "stopped")
    job = bench.train(run, prepare=_signalled_while_validating)
    assert job.state is State.STOPPED and "step 4" in job.message
    assert not bench.story(run)["validation/loss"]
    assert bench.train(run).state is State.FINISHED
    assert bench.story(run) == bench.story(whole) and result_bytes(run) == result_bytes(whole)


def test_an_ordered_evaluation_is_taken_again_at_its_step_after_a_resume(bench: Bench) -> None:
    whole, killed = bench.run(bench.profile(**RARE), "whole"), bench.run(bench.profile(**RARE), "killed")
    bench.train(whole, prepare=bench.at_step(whole, {2: "evaluate"}))
    bench.train(killed, prepare=bench.at_step(killed, {2: "evaluate", 4: "SIGKILL"}))
    for folder in (killed.folder / "checkpoints").glob("step-*"):  # as if it had died before its best was saved
        checkpoint.put_aside(folder)
    assert bench.train(killed).state is State.FINISHED
    assert [order.step for order in orders.taken(bench.ledger, killed.id)] == [2]
    assert [step for step, _ in bench.story(killed)["validation/loss"]] == [2, 12]
    assert bench.story(killed) == bench.story(whole) and result_bytes(killed) == result_bytes(whole)


# SimpleTuner#2306, unsloth#7938, #8150: a crash goes unnoticed, or is shown as success.
def test_a_crash_is_neither_unnoticed_nor_shown_as_success_and_the_run_can_be_resumed(bench: Bench) -> None:
    whole = bench.trained("whole")
    run = bench.run(bench.profile(), "crashed")
    job = bench.job(run)
    status = children.finish(children.start(bench.ledger.path, job.uid, prepare=_crash_at_five))
    ended = jobs.get(bench.ledger, job.uid)
    assert status == 1 and (ended.state, ended.cause) == (State.FAILED, "AssertionError")
    assert "a kernel that does not exist" in ended.message
    found = runs.find(bench.ledger, run.uid)
    assert (found.state, found.cause) == (State.FAILED, "AssertionError")
    assert [event.level for event in events.of_run(bench.ledger, run.id) if event.kind == "failed"] == ["error"]
    assert bench.train(run).state is State.FINISHED
    assert bench.story(run) == bench.story(whole) and result_bytes(run) == result_bytes(whole)


def _crash_at_five() -> None:
    from engine.train import step

    clip, calls = step.clip, iter(range(100))

    def crashing(*arguments: object) -> object:
        assert next(calls) < 4, "a kernel that does not exist"
        return clip(*arguments)  # type: ignore[arg-type]

    step.clip = crashing  # type: ignore[assignment]


# ms-swift#6392: the disk fills.
def test_a_disk_that_fills_in_the_middle_of_a_checkpoint_leaves_the_one_before_whole(bench: Bench) -> None:
    whole = bench.trained("whole")
    run = bench.run(bench.profile(), "full-disk")
    copy = bench.folder / "copy"
    prepare = children.AllOf(_Keep(run.folder, copy), _believe_there_is_room)
    job = bench.train(run, disk=run.folder, prepare=prepare)
    assert (job.state, job.cause) == (State.FAILED, "disk"), job.message
    run.folder.rmdir()
    copy.rename(run.folder)  # what was on the child's own disk
    found = checkpoint.newest(run.folder / "checkpoints")
    assert found.path is not None and not found.damaged
    assert [point.step for point in checkpoints.of_run(bench.ledger, run.id)][-1] == checkpoint.step_of(found.path)
    assert all(not folders.damage(folder) for folder in (run.folder / "checkpoints").glob("step-*"))
    assert bench.train(run).state is State.FINISHED
    assert bench.story(run) == bench.story(whole) and result_bytes(run) == result_bytes(whole)


def _believe_there_is_room() -> None:
    checkpoint.SPARE = 0.0  # type: ignore[misc]


def test_early_stopping_comes_at_the_same_step_after_a_kill(bench: Bench) -> None:
    settings = {"training.learning_rate": 0.9, "training.schedule": "constant", "training.evaluate_every": 1}
    asked = bench.profile(**settings, **{"training.early_stopping": {"patience": 2}, "training.max_steps": 60})
    whole, run = bench.run(asked, "whole"), bench.run(asked, "killed")
    assert bench.train(whole).state is State.FINISHED
    end = runs.find(bench.ledger, whole.uid).step
    assert 2 < end < 60
    bench.train(run, prepare=bench.at_step(run, {end - 1: "SIGKILL"}))
    assert bench.train(run).state is State.FINISHED
    assert runs.find(bench.ledger, run.uid).step == end
    assert bench.story(run) == bench.story(whole) and result_bytes(run) == result_bytes(whole)
