"""Imported runs in the ledger: once however often, grown where the source has grown, under our names and without secrets."""

from __future__ import annotations

import math
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import Problem
from engine.ledger import Ledger, events, labels, metrics, runs
from engine.ledger.exchange import adding, foreign, sources
from engine.ledger.exchange.imported import Imported, Points, uid_of
from engine.ledger.metrics import Writer
from engine.ledger.runs import Run
from engine.ledger.states import State
from tests.engine.ledger.exchange.conftest import EVENTS, FILES, WANDB


def imported(last: int, **more: object) -> Imported:
    """A run of so many steps with two metrics that were logged together."""
    column = np.arange(1, last + 1)
    points = {key: Points(column, 1e9 + column.astype(float), 1.0 / column) for key in ("train/loss", "train/rate")}
    run = Imported(uid_of("csv", "x"), "csv", Path("/somewhere/log.csv"), "log", 1e9, points)
    return replace(run, **more)  # type: ignore[arg-type]


def changes(ledger: Ledger) -> object:
    """What rises with any change."""
    return ledger.rows("SELECT max(changed), (SELECT count(*) FROM event), (SELECT count(*) FROM segment) FROM run")


def test_again_adds_nothing_and_a_grown_source_is_gone_on_with(ledger: Ledger, tmp_path: Path) -> None:
    first = adding.add(ledger, imported(5000), runs_folder=tmp_path)
    assert (first.new, first.points) == (True, 10000)
    before = changes(ledger)
    again = adding.add(ledger, imported(5000), runs_folder=tmp_path)
    assert (again.uid, again.new, again.points) == (first.uid, False, 0)
    assert changes(ledger) == before
    grown = adding.add(ledger, imported(6000, state=State.FINISHED, steps=6000), runs_folder=tmp_path)
    assert grown.points == 2000
    run = runs.find(ledger, first.uid)
    assert (run.step, run.steps, run.state, run.cause) == (6000, 6000, State.FINISHED, "")
    curve = metrics.curve(ledger, run.id, "train/loss")
    assert curve.steps.tolist() == list(range(1, 6001))
    np.testing.assert_array_equal(curve.values, 1.0 / np.arange(1, 6001))
    # An older copy of the source takes nothing back.
    adding.add(ledger, imported(10, state=State.FAILED, cause="exit 1"), runs_folder=tmp_path)
    assert runs.find(ledger, first.uid) == run


def test_a_gap_is_no_news_and_a_point_that_was_put_right_is(ledger: Ledger, tmp_path: Path) -> None:
    def of(*values: float) -> Imported:
        steps = np.arange(len(values))
        return imported(1, points={"train/loss": Points(steps, 1e9 + steps.astype(float), np.array(values))})

    gaps = (1.0, math.nan, math.inf, -math.inf, 2.0)
    uid = adding.add(ledger, of(*gaps), runs_folder=tmp_path).uid
    assert adding.add(ledger, of(*gaps), runs_folder=tmp_path).points == 0
    assert adding.add(ledger, of(1.0, 0.5, math.inf, -math.inf, 3.0), runs_folder=tmp_path).points == 2
    curve = metrics.curve(ledger, runs.find(ledger, uid).id, "train/loss")
    assert curve.values.tolist() == [1.0, 0.5, math.inf, -math.inf, 3.0]


@pytest.mark.parametrize("created", [1.2e9, math.nan, math.inf, 1e300])
def test_a_time_that_is_none_is_the_run_s_and_that_of_now_where_it_has_none(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, created: float
) -> None:
    monkeypatch.setattr("time.time", lambda: 1.8e9)
    points = Points(np.arange(3), np.array([math.nan, 1e300, 1.5e9]), np.ones(3))
    adding.add(ledger, imported(1, created=created, points={"train/loss": points}), runs_folder=tmp_path)
    run, made = runs.find(ledger, "log"), 1.2e9 if created == 1.2e9 else 1.8e9
    assert run.created == made
    assert metrics.curve(ledger, run.id, "train/loss").times.tolist() == [made, made, 1.5e9]


def test_a_training_that_logs_meanwhile_loses_nothing(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    with Writer(ledger, run.id) as writer:
        importing = threading.Thread(
            target=adding.add, args=(ledger, imported(60_000)), kwargs={"runs_folder": tmp_path}
        )
        importing.start()
        for step in range(3000):
            writer.log(step, {"train/loss": 1.0})
        importing.join()
    assert writer.dropped == 0
    assert len(metrics.curve(ledger, run.id, "train/loss").steps) == 3000
    there = runs.find(ledger, imported(1).uid)
    assert metrics.curve(ledger, there.id, "train/rate").steps.tolist() == list(range(1, 60_001))


def test_an_import_that_broke_off_is_finished_by_the_next(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(adding.sealing, "seal", broken)
        adding.add(ledger, imported(10_000), runs_folder=tmp_path)
    added = adding.add(ledger, imported(10_000), runs_folder=tmp_path)
    assert (added.new, added.points) == (False, 20_000)


def test_an_end_that_is_not_told_is_not_called_finished(ledger: Ledger, tmp_path: Path) -> None:
    adding.add(ledger, imported(3), runs_folder=tmp_path)
    run = runs.find(ledger, "log")
    assert (run.state, run.cause, run.source) == (State.STOPPED, adding.END_UNKNOWN, "csv")
    adding.add(ledger, imported(3, points={}, state=State.FAILED, cause="exit 1"), runs_folder=tmp_path)
    assert (runs.find(ledger, "log").state, runs.find(ledger, "log").cause) == (State.FAILED, "exit 1")


def test_a_run_that_had_finished_and_went_on_has_not_finished(ledger: Ledger, tmp_path: Path) -> None:
    for last, state, then in ((3, State.FINISHED, State.FINISHED), (3, None, State.FINISHED), (5, None, State.STOPPED)):
        adding.add(ledger, imported(last, state=state), runs_folder=tmp_path)
        assert runs.find(ledger, "log").state is then


def test_names_and_tags_fit_the_ledger(ledger: Ledger, tmp_path: Path) -> None:
    runs.create(ledger, name="log two", runs_folder=tmp_path, profile="", settings={})
    tags = ("medical", "two words", "a,b", "\x1b[31m", "-")
    adding.add(ledger, imported(1, name="log\ttwo\n", tags=tags), runs_folder=tmp_path)
    run = runs.find(ledger, "log two-2")
    assert labels.tags(ledger, run) == ("a-b", "medical", "two-words")
    assert run.folder == tmp_path / run.uid and not run.folder.exists()


def test_a_run_that_was_thrown_away_does_not_come_back(ledger: Ledger, tmp_path: Path) -> None:
    added = adding.add(ledger, imported(3), runs_folder=tmp_path)
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET deleted = 1 WHERE uid = ?", (added.uid,))
    again = adding.add(ledger, imported(9), runs_folder=tmp_path)
    assert (again.points, again.left) == (0, adding.BINNED)


def test_what_could_not_be_read_is_told_once(ledger: Ledger, tmp_path: Path) -> None:
    for _ in range(2):
        adding.add(ledger, imported(3, troubles=("Lines that could not be understood: 1.",)), runs_folder=tmp_path)
    run = runs.find(ledger, "log")
    told = events.of_kind(ledger, run.id, "import")
    assert [(event.level, event.text) for event in told] == [
        ("info", "imported from /somewhere/log.csv (csv)"),
        ("warning", "Lines that could not be understood: 1."),
    ]


def test_settings_lose_secrets_and_keep_the_rest() -> None:
    found = foreign.settings(
        {
            "learning_rate": 1e-4,
            "hub_token": "abc",
            "openai_api_key": "abc",
            "password": "abc",
            "where": "https://me:secret@box/",
            "anything": "hf_abcdefghijklmnop",
            "arguments": ["--push", "hf_abcdefghijklmnop"],
            "accounts": [{"name": "me", "api_key": "abc"}],
            "stages": [{"epochs": 1}],
            "pad_token": "<pad>",
            "max_tokens": 5,
            "eos_token_id": 2,
            "model": {"base": "llama", "note": None},
            "limit": float("inf"),
            "template": "x" * 5000,
        }
    )
    assert len(str(found.pop("template"))) == foreign.LONGEST + 1
    assert found == {
        "training.learning_rate": 1e-4,
        "stages": ["{'epochs': 1}"],
        "pad_token": "<pad>",
        "max_tokens": 5,
        "eos_token_id": 2,
        "model.base": "llama",
        "limit": "inf",
    }


def test_two_metrics_never_get_one_name() -> None:
    names = foreign.Names()
    keys = ("loss", "train/loss", "loss", "eval_loss", "eval/loss", "eval_accuracy")
    assert [names(key) for key in keys] == [
        *("train/loss", "train/loss_2", "train/loss", "validation/loss", "eval/loss", "validation/accuracy"),
    ]


def test_what_lies_where(project: Path) -> None:
    assert [(reader.kind, reader.path) for reader in sources.find(FILES / "wandb").readers] == [("wandb", WANDB)]
    everything = sources.find(FILES)  # the one that tells most goes first; the others are named
    assert [reader.kind for reader in everything.readers] == ["wandb"]
    assert everything.also == ("tensorboard",)
    both = sources.find(FILES, "tensorboard").readers
    assert [reader.path.name for reader in both] == ["tb", "torch"]  # and no run for what add_hparams wrote beside
    assert sources.find(EVENTS).readers[0].kind == "tensorboard"
    assert [reader.kind for reader in sources.find(project.parent).readers] == ["trackio", "trackio"]


def test_what_a_trainer_put_in_its_folder_of_runs_is_called_as_that(tmp_path: Path) -> None:
    output = tmp_path / "project" / "speech-lora"
    for folder in (output / "runs" / "Nov20_15-45-15_box", tmp_path / "project" / "runs" / "first"):
        shutil.copytree(EVENTS.parent, folder)
    (output / "checkpoint-2").mkdir()
    (output / "checkpoint-2" / "trainer_state.json").write_text('{"log_history": [], "global_step": 2}')
    found = sources.find(tmp_path / "project")
    names = [told.name for reader in found.readers if (told := reader.read())]
    assert (names, found.also) == (["runs/first", "speech-lora"], ("trainer",))
    (reader,) = sources.find(output).readers
    alone = reader.read()
    assert alone is not None and alone.name == "speech-lora"


def test_a_table_under_another_name_is_read_when_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.log"
    path.write_text('{"step": 1, "loss": 2}\n')
    with pytest.raises(Problem, match="--as KIND"):
        sources.find(path)
    (reader,) = sources.find(path, "jsonl").readers
    assert (found := reader.read()) is not None and list(found.points) == ["train/loss"]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for path, kind, said in (
        (tmp_path / "gone", None, "There is no"),
        (tmp_path, None, "No known runs"),
        (tmp_path, "wandb", "No wandb runs"),
        (tmp_path, "tensorbord", "did you mean tensorboard"),
    ):
        with pytest.raises(Problem, match=said):
            sources.find(path, kind)
