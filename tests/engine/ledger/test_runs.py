"""Runs: found by what people type, listed as they are, compared, deleted only when nothing is at work on them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.ledger import Ledger, differences, jobs, labels, metrics, runs, summaries
from engine.ledger.best import higher_is_better
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.ledger.summaries import Summary


def made(ledger: Ledger, name: str, **settings: object) -> Run:
    return runs.create(ledger, name=name, runs_folder=Path("/runs"), profile="", settings=settings)


def test_a_run_is_found_by_name_uid_or_the_beginning_of_one(ledger: Ledger) -> None:
    run = made(ledger, "speech")
    assert runs.find(ledger, "speech") == runs.find(ledger, run.uid) == runs.find(ledger, run.uid[:4]) == run
    assert runs.by_id(ledger, run.id) == run
    assert runs.by_id(ledger, 999) is None
    assert run.folder == Path("/runs") / run.uid
    with pytest.raises(Problem, match="no run speach - did you mean speech"):
        runs.find(ledger, "speach")
    with pytest.raises(Problem, match="no run %%%%"):
        runs.find(ledger, "%%%%")


def test_a_beginning_that_several_uids_have_is_refused(ledger: Ledger) -> None:
    first, second = made(ledger, "a"), made(ledger, "b")
    with ledger.transaction() as connection:
        connection.executemany(
            "UPDATE run SET uid = ? WHERE id = ?", [("abcd00000001", first.id), ("abcd00000002", second.id)]
        )
    with pytest.raises(Problem, match="means 2 runs"):
        runs.find(ledger, "abcd")
    assert runs.find(ledger, "abcd00000002").name == "b"


def test_a_name_that_is_taken_gets_a_number(ledger: Ledger) -> None:
    assert [made(ledger, "100%_done").name for _ in range(3)] == ["100%_done", "100%_done-2", "100%_done-3"]
    assert made(ledger, "100").name == "100"


def test_the_list_has_the_newest_first_and_sees_what_is_lost(ledger: Ledger, tmp_path: Path) -> None:
    for name in ("finished", "lost", "running", "resumed"):
        run = made(ledger, name)
        job = jobs.sign_in(ledger, jobs.create(ledger, "train", run=run.id, argument={}, log=tmp_path), pid=os.getpid())
        jobs.set_state(ledger, job, State.FINISHED if name == "finished" else State.RUNNING)
        if name in ("lost", "resumed"):
            with ledger.transaction() as connection:
                connection.execute("UPDATE job SET pid_started = 1 WHERE id = ?", (job.id,))
        if name == "resumed":
            jobs.create(ledger, "train", run=run.id, argument={}, log=tmp_path)
    listed = [(run.name, str(run.state)) for run in runs.listed(ledger)]
    assert listed == [("resumed", "queued"), ("running", "running"), ("lost", "lost"), ("finished", "finished")]
    assert [(name, str(runs.find(ledger, name).state)) for name, _ in listed] == listed


def test_summaries_take_the_best_in_the_right_direction(ledger: Ledger) -> None:
    run, other = made(ledger, "a"), made(ledger, "b")
    with metrics.Writer(ledger, run.id) as log:
        for step, loss in enumerate([3.0, 1.0, 2.0]):
            log.log(step, {"train/loss": loss, "train/tokens_per_second": loss})
    found = summaries.of_all(ledger)
    smoothed = found[run.id]["train/loss"].smoothed
    assert smoothed is not None and 1.0 < smoothed < 3.0
    assert found[run.id]["train/loss"] == Summary(2.0, 2, 1.0, 1, smoothed)
    assert found[run.id]["train/tokens_per_second"] == Summary(2.0, 2, 3.0, 0, smoothed)
    assert other.id not in found
    assert summaries.of_all(ledger, ["train/loss"]) == {run.id: {"train/loss": found[run.id]["train/loss"]}}
    assert summaries.of_all(ledger, []) == {}


def test_the_best_is_the_highest_where_the_key_says_so() -> None:
    high = (
        "validation/accuracy",
        "train/tokens_per_second",
        "eval_f1",
        "rewards/margins",
        "eval/rougeLsum",
        "mean_token_accuracy",
    )
    low = ("validation/loss", "train/loss", "train/grad_norm", "eval_loss", "score/loss", "train/rate", "f1x", "")
    assert [higher_is_better(key) for key in (*high, *low)] == [True] * len(high) + [False] * len(low)


def test_whatever_a_run_is_called_its_name_is_a_line(ledger: Ledger) -> None:
    assert made(ledger, " two\n lines\x1b[2J ").name == "two lines [2J"
    assert len(made(ledger, "x" * 5000).name) == runs.LONGEST_NAME
    for nothing in ("", " ", "\ud800"):
        run = made(ledger, nothing)
        assert run.name == run.uid


def test_what_is_recorded_is_added_to_what_is_known(ledger: Ledger, run: Run) -> None:
    runs.record(ledger, run, environment={"torch": "2", "gpu": {"name": "x"}}, fingerprints={"data": "1", "base": "2"})
    runs.record(ledger, run, environment={"torch": "3"}, fingerprints={"result": "4"})
    document = runs.document(ledger, run)
    assert document.environment == {"torch": "3", "gpu": {"name": "x"}}
    assert document.fingerprints == {"data": "1", "base": "2", "result": "4"}
    runs.progress(ledger, run, step=3, steps=9, ends=12.5)
    runs.set_measured_memory(ledger, run, 100.0)
    runs.set_measured_memory(ledger, run, 90.0)
    runs.set_result(ledger, run, kind="adapter", path="adapter/best")
    labels.set_note(ledger, run, "the good one")
    found = runs.find(ledger, run.uid)
    assert (found.step, found.steps, found.ends, found.measured_mib) == (3, 9, 12.5, 100.0)
    assert (found.result, found.note) == (run.folder / "adapter/best", "the good one")
    assert run.result is None


def test_runs_are_compared_by_the_settings_in_which_they_differ(ledger: Ledger) -> None:
    a = made(ledger, "a", **{"method.rank": 16, "training.seed": 7, "data.0.source": "x.json", "same": [1, 2]})
    b = made(ledger, "b", **{"method.rank": 64, "training.seed": 7, "data.1.source": "y.json", "same": [1, 2]})
    one, other = runs.settings(ledger, a), runs.settings(ledger, b)
    assert differences.different([one, other]) == {
        "data.0.source": ("x.json", None),
        "data.1.source": (None, "y.json"),
        "method.rank": (16, 64),
    }
    assert differences.different([other, one])["method.rank"] == (64, 16)
    assert differences.different([one]) == differences.different([]) == differences.different([one, one]) == {}
