"""Trainer's folders, trackio's projects and plain tables, whole, growing and half written."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from pathlib import Path

import polars
import pytest

from engine.errors import Problem
from engine.ledger.exchange import plain, trackio, trainer
from engine.ledger.exchange.imported import Imported, Reader
from engine.ledger.exchange.trainer import OutputFolder
from engine.ledger.runs import UID
from engine.ledger.states import State


def read(reader: Reader) -> Imported:
    """What the reader gives, which is something."""
    imported = reader.read()
    assert imported is not None
    return imported


def values(imported: Imported) -> dict[str, dict[int, float]]:
    """Each metric's values by step."""
    return {
        key: dict(zip(points.steps.tolist(), points.values.tolist(), strict=True))
        for key, points in imported.points.items()
    }


def checkpoint(output: Path, step: int, *, steps: int = 30, when: float = 1_795_000_000, done: bool = False) -> Path:
    """A Trainer's checkpoint at `step`, with a log every ten steps and an evaluation at 20."""
    log: list[dict[str, float]] = []
    for at in range(10, step + 1, 10):
        log.append({"loss": 30.0 / at, "learning_rate": 1e-4, "grad_norm": float("nan"), "epoch": at / 10, "step": at})
        if at == 20:
            log.append({"eval_loss": 1.5, "eval_runtime": 2.0, "epoch": 2.0, "step": 20})
    if done:
        log.append({"train_loss": 2.0, "train_runtime": 9.0, "total_flos": 1e15, "epoch": 3.0, "step": step})
    state = {"log_history": log, "global_step": step, "max_steps": steps, "num_train_epochs": 3, "train_batch_size": 8}
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    file = folder / "trainer_state.json"
    file.write_text(json.dumps(state, indent=2))
    os.utime(file, (when, when))
    return file


def test_a_trainers_folder_while_it_trains_and_afterwards(tmp_path: Path) -> None:
    output = tmp_path / "speech-lora"
    file = checkpoint(output, 10)
    adapter = {
        "base_model_name_or_path": "meta-llama/x",
        "r": 16,
        "lora_alpha": 32,
        "peft_type": "LORA",
        "use_dora": False,
    }
    (file.parent / "adapter_config.json").write_text(json.dumps(adapter))
    reader = OutputFolder(output)
    first = read(reader)
    assert (first.name, first.steps, first.state) == ("speech-lora", 30, None)
    assert first.settings["model.base"] == "meta-llama/x"
    assert (first.settings["method.name"], first.settings["method.rank"]) == ("lora", 16)
    assert values(first)["train/loss"] == {10: 3.0}
    assert math.isnan(values(first)["train/grad_norm"][10])
    assert read(reader).points == {}  # nothing has changed

    checkpoint(output, 20, when=1_795_000_100)
    second = read(reader)
    assert second.uid == first.uid
    assert values(second)["train/loss"] == {10: 3.0, 20: 1.5}
    assert values(second)["validation/loss"] == {20: 1.5}
    assert second.points["train/loss"].times.tolist() == [1_795_000_000, 1_795_000_100]  # of the file that had it first

    checkpoint(output, 30, when=1_795_000_200, done=True)
    assert read(reader).state is State.FINISHED
    assert read(OutputFolder(output / "checkpoint-20")).uid == first.uid


def test_a_state_that_is_half_written_waits(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10)
    half = checkpoint(tmp_path, 20, when=1_795_000_100)
    half.write_bytes(half.read_bytes()[:-50])
    imported = read(OutputFolder(tmp_path))
    assert values(imported)["train/loss"] == {10: 3.0}
    assert imported.waiting == half.stat().st_size
    assert str(half) in imported.troubles[0]
    assert OutputFolder(half).read() is None


def test_a_checkpoint_that_is_removed_while_it_is_looked_at_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotated, last = checkpoint(tmp_path, 10), checkpoint(tmp_path, 20, when=1_795_000_100)
    state = trainer._state

    def state_after_rotating(file: Path) -> dict[str, object] | None:
        rotated.unlink(missing_ok=True)
        return state(file)

    monkeypatch.setattr(trainer, "_state", state_after_rotating)
    monkeypatch.setattr(trainer, "files", lambda _: [tmp_path / "checkpoint-5" / trainer.FILE, rotated, last])
    imported = read(OutputFolder(tmp_path))
    assert (values(imported)["train/loss"], imported.created) == ({10: 3.0, 20: 1.5}, 1_795_000_100)


def test_another_training_in_the_same_folder_is_another_run(tmp_path: Path) -> None:
    first = read(OutputFolder(checkpoint(tmp_path, 10).parent.parent))
    file = tmp_path / "checkpoint-10" / "trainer_state.json"
    file.write_text(file.read_text().replace('"loss": 3.0', '"loss": 4.0'))
    assert read(OutputFolder(tmp_path)).uid != first.uid


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trainer_state.json").write_text("[1, 2]")
    with pytest.raises(Problem, match="not a Trainer's state"):
        OutputFolder(tmp_path).read()
    (tmp_path / "trainer_state.json").write_text('{"global_step": 2, "log_history": "none"}')
    with pytest.raises(Problem, match="not a Trainer's state"):
        OutputFolder(tmp_path).read()


def test_an_entry_without_a_step_is_told_and_not_put_at_step_0(tmp_path: Path) -> None:
    log = [{"loss": 3.0, "step": 1}, {"loss": 9.0}, {"loss": 9.0, "step": 1.5}, None]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 1, "log_history": log}))
    imported = read(OutputFolder(tmp_path))
    assert values(imported)["train/loss"] == {1: 3.0}
    assert imported.troubles == ("Entries of the log without a whole number as their step: 3.",)


def test_trackio_while_it_is_written_to(project: Path) -> None:
    first, second = trackio.readers(project)
    imported = read(first)
    assert (imported.name, read(second).name) == ("first", "second")
    assert imported.settings == {"training.learning_rate": 1e-4, "model.rank": 8}
    assert imported.sweep == "g"
    found = values(imported)
    assert found["train/loss"] == {step: 3.0 / (step + 1) for step in range(6)}
    assert [step for step, value in found["x"].items() if not math.isfinite(value)] == [2, 3]
    assert found["deep.a"][0] == 1

    writing = sqlite3.connect(project)
    writing.execute("PRAGMA journal_mode = WAL")
    writing.execute(
        "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics)"
        " SELECT run_id, timestamp, run_name, 6, '{\"train/loss\": 0.25}' FROM metrics WHERE run_name = 'first' LIMIT 1"
    )
    writing.commit()
    assert values(read(first)) == {"train/loss": {6: 0.25}}
    assert read(second).points == {}
    writing.close()


def test_trackio_before_runs_had_ids(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE metrics (id INTEGER PRIMARY KEY, timestamp TEXT, run_name TEXT, step INTEGER, metrics TEXT)"
    )
    rows = [
        ("2026-01-01T10:00:00", "a", 0, '{"loss": 1}'),
        ("2026-01-01T10:00:01", "a", 1, "not JSON"),
        (None, "a", 2, "{}"),
    ]
    connection.executemany("INSERT INTO metrics (timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    connection.close()
    (reader,) = trackio.readers(path)
    imported = read(reader)
    assert (imported.created, values(imported)) == (1767261600.0, {"train/loss": {0: 1.0}})
    assert imported.troubles == ("Rows of a that could not be understood: 2.",)


def test_a_row_a_step(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step;loss;val_loss;words\n1;2.5;;a\n2;nan;1e-3;b\n\n3;1.5;inf;c\n3;0.5")
    imported = read(plain.readers(path, "csv")[0])
    found = values(imported)
    assert found["train/loss"][1] == 2.5 and math.isnan(found["train/loss"][2]) and found["train/loss"][3] == 1.5
    assert found["validation/loss"] == {2: 1e-3, 3: math.inf}
    assert imported.waiting == len("3;0.5")
    assert "half written" in imported.troubles[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Wall time,Step,Value\n1795000000.5,1,2.5\n", {"value": {1: 2.5}}),  # TensorBoard's download
        ('"Step","first - train/loss"\n"1","2.5"\n', {"first - train/loss": {1: 2.5}}),  # wandb's
        (
            "epoch,step,train_loss,val_loss\n0,1,2.5,\n0,1,,3.5\n",
            {"train/loss": {1: 2.5}, "validation/loss": {1: 3.5}},
        ),  # Lightning's
        (",step,loss\n0,1,2.5\n", {"train/loss": {1: 2.5}}),  # of a pandas frame
    ],
)
def test_tables_as_others_write_them(tmp_path: Path, text: str, found: dict[str, dict[int, float]]) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    read_back = values(read(plain.readers(path, "csv")[0]))
    read_back.pop("train/epoch", None)
    assert read_back == found


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("step,loss,words\n1,0.5,a\n2,x,b\n3, ,c\n4,0.2,\n", 1),
        ("step,key,value\n1,loss,0.5\n2,loss,half\n", 1),
        ("step,loss\n1,0.5\n2,nan\n", 0),
    ],
)
def test_texts_among_numbers_are_told(tmp_path: Path, text: str, unread: int) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    reader = plain.readers(path, "csv")[0]
    told = (f"Cells that should be numbers and are not: {unread}.",) if unread else ()
    assert read(reader).troubles == told
    assert read(reader).troubles == told  # also when nothing has changed


def test_of_a_step_that_comes_twice_the_last_counts_and_what_is_no_step_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "uid,step,train/loss\n../../etc,1,0.5\n../../etc,2,0.4\n../../etc,1,0.3\n../../etc,1.5,9\n../../etc,,9\n"
    )
    imported = read(plain.readers(path, "csv")[0])
    assert values(imported)["train/loss"] == {1: 0.3, 2: 0.4}
    assert "Rows without a whole number as their step: 2." in imported.troubles
    assert UID.fullmatch(imported.uid), "a folder is named by it"


def test_a_table_without_numbers_says_so(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step;loss\n1;0,5\n2;0,4\n")
    assert read(plain.readers(path, "csv")[0]).troubles == ("No column but that of the steps holds numbers.",)


def test_lines_that_are_nested_too_deep_are_none(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 0.5}\n' + "[" * 100_000 + "\n")
    imported = read(plain.readers(path, "jsonl")[0])
    assert (values(imported)["train/loss"], imported.troubles) == (
        {1: 0.5},
        ("Lines that could not be understood: 1.",),
    )


def test_a_table_in_utf_16_says_so(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n1,2\n", encoding="utf-16")
    with pytest.raises(Problem, match="is in UTF-16"):
        plain.readers(path, "csv")


def test_lines_of_json_of_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [
        {"run": "a", "step": 1, "loss": 1.0, "eval": {"loss": 2.0}, "timestamp": "2026-01-01T00:00:00+00:00"},
        {"run": "b", "step": 1, "loss": 3.0},
    ]
    path.write_text(
        "\n".join(map(json.dumps, rows)) + '\nnot json\n{"run": "a", "step": "x"}\n{"run": "a", "step": 2, "lo'
    )
    a, b = plain.readers(path, "jsonl")
    imported = read(a)
    assert values(imported) == {"train/loss": {1: 1.0}, "eval.loss": {1: 2.0}}
    assert imported.created == 1767225600.0
    assert [trouble.split()[0] for trouble in imported.troubles] == ["Lines", "Rows", "The"]
    assert "half written" in imported.troubles[2]
    assert values(read(b)) == {"train/loss": {1: 3.0}}

    path.write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}')  # an object that ends is whole
    assert values(read(plain.readers(path, "jsonl")[0])) == {"train/loss": {1: 1.0, 2: 0.5}}


def test_parquet_of_somebody(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    polars.DataFrame(
        {"iteration": [1, 2], "loss": [1.0, None], "time": [1_795_000_000_123, 1_795_000_001_000]}
    ).write_parquet(path)
    imported = read(plain.readers(path, "parquet")[0])
    assert values(imported) == {"train/loss": {1: 1.0}}
    assert imported.points["train/loss"].times.tolist() == [1_795_000_000.123]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Problem, match="not a whole Parquet file"):
        plain.readers(path, "parquet")


def test_a_table_without_steps_says_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epochs,loss\n1,2\n")
    with pytest.raises(Problem, match="no column of steps") as caught:
        plain.readers(path, "csv")[0].read()
    assert "epochs, loss" in str(caught.value)
