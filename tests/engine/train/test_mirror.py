"""Metrics that also go to another tracker: all of them, once each, whatever happens to the run or to the tracker."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from engine import compatible
from engine.errors import Problem
from engine.ledger import Ledger, events, jobs, metrics, summaries
from engine.ledger.exchange import event_files
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.train import mirror
from tests.engine.train.conftest import Bench
from tests.engine.watching.conftest import until


def scalars(folder: Path) -> Counter[tuple[str, int, float]]:
    """Every scalar in a folder's event files, as TensorBoard's own messages say it; values as float32 holds them."""
    from tensorboardX.proto.event_pb2 import Event

    found: Counter[tuple[str, int, float]] = Counter()
    for file in sorted(folder.glob("*tfevents*")):
        for record in event_files.read(file, 0).records:
            event = Event.FromString(record)
            found.update(
                (each.tag, event.step, each.simple_value) for each in event.summary.value if not each.HasField("tensor")
            )
    return found


def is_handed_on(ledger: Ledger, run: Run, kind: str) -> bool:
    """Whether the mirror has told of the newest step of every metric."""
    mark = run.folder / mirror.FOLDER / f"{kind}.json"
    done = json.loads(mark.read_text()) if mark.exists() else {}
    return done == {key: each.last_step for key, each in summaries.of_run(ledger, run).items()}


def test_a_run_that_is_killed_and_resumed_is_mirrored_once(bench: Bench) -> None:
    ledger = bench.ledger
    run = bench.run(bench.profile(**{"training.mirror": ("tensorboard",)}))
    assert jobs.seen_state(bench.train(run, prepare=bench.at_step(run, {8: "SIGKILL"}))) is State.LOST
    until(lambda: is_handed_on(ledger, run, "tensorboard"), "the mirror of the killed job")
    assert bench.train(run).state is State.FINISHED
    until(lambda: is_handed_on(ledger, run, "tensorboard"), "the mirror of the resumed job")
    found = scalars(run.folder / mirror.FOLDER / "tensorboard")
    assert set(found.values()) == {1}
    assert Counter(tag for tag, _, _ in found) == {
        key: len(metrics.curve(ledger, run.id, key).steps) for key in metrics.keys(ledger, run.id)
    }
    for tag in ("train/loss", "validation/loss"):  # times are those of the first time
        curve = metrics.curve(ledger, run.id, tag)
        mirrored = {step: value for name, step, value in found if name == tag}
        assert [mirrored[step] for step in curve.steps.tolist()] == pytest.approx(curve.values.tolist(), rel=1e-6)
    told = f"Metrics also go to tensorboard: tensorboard --logdir {run.folder / mirror.FOLDER / 'tensorboard'}"
    assert [event.text for event in events.of_kind(ledger, run.id, "mirror")] == [told] * 2


def ended(bench: Bench, steps: int) -> tuple[Run, jobs.Job]:
    """A run whose job has ended after so many steps."""
    run = bench.run(bench.profile())
    return run, train_on(bench, run, 0, steps)


def train_on(bench: Bench, run: Run, first: int, last: int) -> jobs.Job:
    """Another job of the run, which logs steps behind `first` and ends."""
    job = jobs.sign_in(bench.ledger, bench.job(run), pid=os.getpid())
    with metrics.Writer(bench.ledger, run.id) as writer:
        for step in range(first + 1, last + 1):
            writer.log(step, {"train/loss": 1 / step, "train/rate": float("nan") if step == 2 else 1e-4})
    jobs.set_state(bench.ledger, job, State.FINISHED)
    return job


def mirrored(bench: Bench, job: jobs.Job, kind: str) -> None:
    """Mirror the job in a process of its own, as a job does it."""
    command = [sys.executable, "-m", "engine.train.mirror", kind, job.uid, "--ledger", str(bench.ledger.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_tracker_that_fails_is_told_and_costs_the_run_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: Run, settings: object, folder: Path) -> None:
        raise ConnectionError("nobody is logged in")

    run, job = ended(bench, 3)
    monkeypatch.setattr(mirror, "OPEN", {"wandb": refuse})
    monkeypatch.setattr(mirror.process, "listen", lambda: None)
    monkeypatch.setattr(mirror.process, "be_deaf", lambda: None)
    assert mirror.main(["wandb", job.uid, "--ledger", str(bench.ledger.path)]) == 1
    (told,) = events.of_kind(bench.ledger, run.id, "mirror")
    assert told.level == "warning"
    assert told.text == "Metrics are no longer mirrored to wandb: ConnectionError: nobody is logged in"


def test_what_is_not_installed_is_said_before_anything_starts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    training = bench.profile(**{"training.mirror": ("wandb", "trackio")}).training
    monkeypatch.setattr(compatible, "find_spec", lambda name: None)
    with pytest.raises(Problem, match="wandb and trackio are not installed") as refused:
        compatible.check_mirrors(training)
    assert "pip install wandb trackio" in refused.value.do
    compatible.check_mirrors(bench.profile().training)


def test_wandb_has_every_step_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from engine.ledger.exchange.wandb import OfflineRun

    monkeypatch.setenv("WANDB_MODE", "offline")
    run, first = ended(bench, 5)
    mirrored(bench, first, "wandb")
    mirrored(bench, train_on(bench, run, 3, 8), "wandb")  # 4 and 5 are trained again
    logs = sorted((run.folder / mirror.FOLDER).rglob("*.wandb"))
    told = [OfflineRun(log).read() for log in logs]
    steps = [each.points["train/loss"].steps.tolist() for each in told if each is not None]
    assert steps == [[1, 2, 3, 4, 5], [6, 7, 8]]
    assert {each.name for each in told if each is not None} == {run.name}


def test_trackio_has_every_step_once(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run, first = ended(bench, 5)
    mirrored(bench, first, "trackio")
    mirrored(bench, train_on(bench, run, 3, 8), "trackio")
    rows = stored(tmp_path / "trackio" / "workbench.db")
    assert Counter(step for step, loss in rows if loss is not None) == dict.fromkeys(range(1, 9), 1)


def stored(database: Path) -> list[tuple[int, float | None]]:
    """Step and loss of every row that trackio keeps."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT step, metrics FROM metrics ORDER BY step").fetchall()
    return [(step, json.loads(text).get("train/loss")) for step, text in rows]
