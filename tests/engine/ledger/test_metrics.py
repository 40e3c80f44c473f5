"""Curves of a run: increments, replayed steps, sealed rows and the tail as one."""

from __future__ import annotations

from pathlib import Path

from engine.ledger import Ledger, metrics, runs
from engine.ledger.metrics import Writer
from engine.ledger.runs import Run


def test_an_increment_brings_only_what_is_new_and_replayed_steps_again(ledger: Ledger, run: Run) -> None:
    with Writer(ledger, run.id) as log:
        for step in range(100):
            log.log(step, {"train/loss": 1.0, "train/rate": 2.0})
    curve = metrics.curve(ledger, run.id, "train/loss")
    assert len(metrics.curve(ledger, run.id, "train/loss", after=curve.seq).steps) == 0
    with Writer(ledger, run.id) as log:
        for step in range(95, 103):
            log.log(step, {"train/loss": 3.0, "train/rate": 2.0})
    increment = metrics.curve(ledger, run.id, "train/loss", after=curve.seq)
    assert increment.steps.tolist() == list(range(95, 103))
    joined = curve.joined(increment)
    assert joined.steps.tolist() == list(range(103))
    assert joined.values.tolist() == [1.0] * 95 + [3.0] * 8
    assert len(metrics.curve(ledger, run.id, "train/loss", after=joined.seq).steps) == 0


# Measured in today's loops: a run that goes on behind a checkpoint logs the steps since then once more, and curves have them twice.
def test_replayed_steps_do_not_appear_twice(ledger: Ledger, run: Run) -> None:
    for first, last, value in ((1, 8, 1.0), (6, 12, 2.0)):  # killed behind step 8, gone on with from step 5
        with Writer(ledger, run.id) as log:
            for step in range(first, last + 1):
                log.log(step, {"train/loss": value})
    curve = metrics.curve(ledger, run.id, "train/loss")
    assert curve.steps.tolist() == list(range(1, 13))
    assert curve.values.tolist() == [1.0] * 5 + [2.0] * 7


def test_runs_do_not_mix(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    other = runs.create(ledger, name="other", runs_folder=tmp_path, profile="", settings={})
    with Writer(ledger, run.id) as mine, Writer(ledger, other.id) as theirs:
        for step in range(50):
            mine.log(step, {"train/loss": 1.0})
            theirs.log(step, {"train/loss": 2.0})
    assert set(metrics.curve(ledger, run.id, "train/loss").values) == {1.0}
    assert set(metrics.curve(ledger, other.id, "train/loss").values) == {2.0}
    assert len(metrics.curve(ledger, run.id, "never/logged").steps) == 0
