"""Event files and wandb's logs, cut anywhere, growing, damaged: what is whole is taken once, nothing else is."""

from __future__ import annotations

import math
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Problem
from engine.ledger import Ledger, metrics, runs
from engine.ledger.exchange import adding, event_files, sources, wandb_log
from engine.ledger.exchange.imported import Imported, Reader
from engine.ledger.exchange.tensorboard import EventFolder
from engine.ledger.exchange.wandb import OfflineRun
from engine.ledger.states import State
from tests.engine.ledger.exchange.conftest import EVENTS, FILES, WANDB

Flat = dict[tuple[str, int], str]
READERS: dict[Path, Callable[[Path], Reader]] = {
    EVENTS: lambda path: EventFolder(path.parent, "run"),
    WANDB: OfflineRun,
}
LOGS = pytest.mark.parametrize("log", READERS, ids=["tensorboard", "wandb"])


def flat(imported: Imported | None) -> Flat:
    """Key and step to the value's digits, so that gaps are equal."""
    return {
        (key, step): repr(value)
        for key, points in (imported.points if imported else {}).items()
        for step, value in zip(points.steps.tolist(), points.values.tolist(), strict=True)
    }


def written(every: int, gaps: dict[int, float], dtype: type[np.floating[Any]]) -> Flat:
    """What the libraries were given: 3 / step, on validation 2 / step or a gap."""
    losses = {("train/loss", step * every): 3.0 / step for step in range(1, 13)}
    losses |= {("validation/loss", step * every): gaps.get(step, 2.0 / step) for step in (4, 8, 12)}
    return {key: repr(float(dtype(value))) for key, value in losses.items()}


def test_event_files_of_tensorboardx() -> None:
    imported = EventFolder(EVENTS.parent, "speech").read()
    assert imported is not None
    assert written(1, {8: math.nan}, np.float32).items() <= flat(imported).items()
    assert set(imported.points) == {"train/loss", "train/rate", "validation/loss"}
    assert imported.points["train/loss"].times.tolist() == [1795000000.0 + step for step in range(1, 13)]
    assert imported.settings == {"training.learning_rate": 1e-4, "training.epochs": 3}  # and no token
    assert (imported.state, imported.troubles, imported.waiting) == (None, (), 0)


def test_event_files_of_torch_with_tensors_and_hparams() -> None:
    imported = EventFolder(FILES / "torch", "speech").read()
    assert imported is not None
    assert imported.points["double"].values.tolist() == [1.0 / step for step in range(1, 6)]
    assert imported.points["train/loss"].values.tolist() == [float(np.float32(1.0 / step)) for step in range(1, 6)]
    assert imported.points["metric"].values.tolist() == [0.5]
    assert imported.settings == {"training.learning_rate": 0.1, "name": "x", "flag": True}


def test_a_run_of_wandb() -> None:
    imported = OfflineRun(WANDB).read()
    assert imported is not None
    # At the optimizer's steps, not at wandb's count of calls.
    assert written(5, {8: math.inf, 12: math.nan}, np.float64).items() <= flat(imported).items()
    assert set(imported.points) == {"train/loss", "validation/loss", "flag"}
    assert imported.settings == {"training.learning_rate": 1e-4, "model.base": "llama", "model.rank": 8}
    assert (imported.name, imported.note, imported.tags) == ("first", "a note", ("medical", "two words"))
    assert (imported.sweep, imported.state, imported.cause) == ("sweep-1", State.FINISHED, "")
    assert imported.environment["host"] == "box"
    assert (imported.troubles, imported.waiting) == ((), 0)


@LOGS
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_log_that_grows_is_read_as_one_that_is_whole(log: Path, data: st.DataObject) -> None:
    content = log.read_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / log.name
        path.write_bytes(b"")
        reader = READERS[log](path)
        found: Flat = {}
        for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
            with path.open("ab") as file:
                file.write(content[begin:end])
            imported = reader.read()
            assert not imported or imported.troubles == ()  # half written is not damaged
            increment = flat(imported)
            assert not increment.keys() & found.keys()
            found |= increment
        assert found == flat(READERS[log](log).read())


@LOGS
def test_an_end_that_is_there_before_what_is_to_stand_in_it_waits(log: Path, tmp_path: Path) -> None:
    content = log.read_bytes()
    path = tmp_path / log.name
    path.write_bytes(content[:-3] + bytes(byte ^ 0xFF for byte in content[-3:]))
    reader = READERS[log](path)
    before = reader.read()
    assert before is not None and before.troubles == () and before.waiting
    path.write_bytes(content)
    after = reader.read()
    assert after is not None and after.troubles == () and not after.waiting
    assert flat(before) | flat(after) == flat(READERS[log](log).read())


@LOGS
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_of_a_damaged_log_nothing_is_taken_that_was_not_written(log: Path, data: st.DataObject) -> None:
    content = bytearray(log.read_bytes())
    for place in data.draw(st.lists(st.integers(8, len(content) - 1), min_size=1, max_size=4)):
        content[place] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / log.name
        path.write_bytes(content)
        imported, whole = READERS[log](path).read(), READERS[log](log).read()
        assert flat(imported).items() <= flat(whole).items()
        if imported and len(flat(imported)) < len(flat(whole)):
            assert imported.troubles or imported.waiting


def test_behind_a_damaged_record_the_rest_is_read(tmp_path: Path) -> None:
    content = bytearray(EVENTS.read_bytes())
    content[content.index(b"train/loss") - 12] ^= 0xFF
    (tmp_path / EVENTS.name).write_bytes(content)
    imported = EventFolder(tmp_path, "run").read()
    assert imported is not None
    assert imported.points["train/loss"].steps.tolist() == list(range(2, 13))
    assert imported.troubles == (f"{EVENTS.name}: damaged records, which were left out: 1.",)


def test_behind_a_damaged_length_nothing_is_guessed_at(tmp_path: Path) -> None:
    whole = event_files.read(EVENTS, 0)
    second = 16 + len(whole.records[0])
    content = bytearray(EVENTS.read_bytes())
    content[second] ^= 1
    (tmp_path / EVENTS.name).write_bytes(content)
    imported = EventFolder(tmp_path, "run").read()
    assert imported is not None
    assert imported.points == {}
    assert imported.troubles == (
        f"{EVENTS.name} is damaged from byte {second:,} on: {len(content) - second:,} bytes were not read.",
    )


def test_wandb_goes_on_in_the_next_block(tmp_path: Path) -> None:
    content = bytearray(WANDB.read_bytes())
    content[600] ^= 0xFF  # of the first block, which ends at 32,768
    path = tmp_path / WANDB.name
    path.write_bytes(content)
    found = wandb_log.read(path, 0)
    assert found.damaged == 1
    assert found.records[-1] == wandb_log.read(WANDB, 0).records[-1]


def test_a_second_writer_goes_on_where_the_first_was_restarted_from(tmp_path: Path) -> None:
    torch = pytest.importorskip("tensorboardX")
    for first, last, restart in ((1, 9, None), (5, 7, 5)):
        writer = torch.SummaryWriter(str(tmp_path), purge_step=restart, filename_suffix=f".{first}")
        for step in range(first, last):
            writer.add_scalar("loss", float(first), step)
        writer.close()
    imported = EventFolder(tmp_path, "run").read()
    assert imported is not None
    assert imported.points["train/loss"].values.tolist() == [1, 1, 1, 1, 5, 5]


@LOGS
def test_a_large_log_is_read_in_pieces(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = READERS[log](log).read()
    monkeypatch.setattr(event_files, "CHUNK", 2048)
    monkeypatch.setattr(wandb_log.read, "__defaults__", (1,))  # blocks: the largest record lies in two
    assert flat(READERS[log](log).read()) == flat(whole)


@LOGS
def test_a_log_that_was_written_anew_is_read_anew(log: Path, tmp_path: Path) -> None:
    path = tmp_path / log.name
    shutil.copy(log, path)
    reader = READERS[log](path)
    whole = flat(reader.read())
    content = log.read_bytes()
    path.write_bytes(content[: len(content) // 5])
    again = reader.read()
    assert again is not None and again.waiting >= 0
    assert 0 < len(flat(again)) < len(whole) and flat(again).items() <= whole.items()


def field(number: int, body: bytes) -> bytes:
    """A field of bytes on the wire, of fewer than 128."""
    tag = number << 3 | 2
    return bytes([tag & 0x7F | 0x80, tag >> 7] if tag > 0x7F else [tag]) + bytes([len(body)]) + body


def log_of(values: dict[int, float]) -> bytes:
    """A log of wandb's with a run and its losses by step."""
    items = ({"train/loss": value, "train/global_step": step} for step, value in values.items())
    rows = (
        b"".join(field(1, field(2, key.encode()) + field(16, repr(value).encode())) for key, value in row.items())
        for row in items
    )
    records = [field(17, field(1, b"abcd1234")), *(field(2, row) for row in rows)]
    content = wandb_log.MAGIC + b"\0"
    for body in records:
        content += zlib.crc32(b"\x01" + body).to_bytes(4, "little") + len(body).to_bytes(2, "little") + b"\x01" + body
    return content


def test_a_run_of_wandb_that_was_resumed_is_one_run(ledger: Ledger, tmp_path: Path) -> None:
    """The second folder goes on from step 2: of a step that both have its point counts, however often both are read."""
    for number, values in ((1, {1: 1.0, 2: 2.0, 3: 3.0}), (2, {3: 3.5, 4: 4.5})):
        folder = tmp_path / f"offline-run-2026010{number}_000000-abcd1234"
        folder.mkdir()
        (folder / "run-abcd1234.wandb").write_bytes(log_of(values))
    for new in (4, 0):
        (reader,) = sources.find(tmp_path).readers
        imported = reader.read()
        assert imported is not None and imported.troubles == ()
        added = adding.add(ledger, imported, runs_folder=tmp_path)
        assert added.points == new
    run = runs.find(ledger, added.uid)
    assert metrics.curve(ledger, run.id, "train/loss").values.tolist() == [1.0, 2.0, 3.5, 4.5]


def test_hyperparameters_that_come_later_do_not_make_another_run(tmp_path: Path) -> None:
    shutil.copytree(FILES / "torch", tmp_path / "torch", ignore=shutil.ignore_patterns("1795*.*"))
    early, whole = EventFolder(tmp_path / "torch", "a").read(), EventFolder(FILES / "torch", "a").read()
    assert early is not None and whole is not None
    assert early.uid == whole.uid and early.settings != whole.settings


def test_a_trainer_that_has_said_that_it_is_done_has_finished(tmp_path: Path) -> None:
    written = pytest.importorskip("tensorboardX")
    reader = EventFolder(tmp_path, "run")
    states = []
    for tag, step in (("train/loss", 10), ("train/train_runtime", 10), ("train/loss", 11)):  # and was gone on with
        writer = written.SummaryWriter(str(tmp_path), filename_suffix=f".{len(states)}")
        writer.add_scalar(tag, 1.0, step)
        writer.close()
        imported = reader.read()
        assert imported is not None
        states.append(imported.state)
    assert states == [None, State.FINISHED, None]


def test_a_folder_that_moves_is_the_same_run(tmp_path: Path) -> None:
    here = EventFolder(EVENTS.parent, "a").read()
    shutil.copytree(EVENTS.parent, tmp_path / EVENTS.parent.name)
    there = EventFolder(tmp_path / EVENTS.parent.name, "b").read()
    assert here is not None and there is not None
    assert here.uid == there.uid


def test_what_is_no_log_is_said(tmp_path: Path) -> None:
    path = tmp_path / "run-x.wandb"
    path.write_bytes(b"not a log at all")
    with pytest.raises(Problem, match="not a wandb run"):
        OfflineRun(path).read()
    with pytest.raises(Problem, match="cannot be read"):
        OfflineRun(tmp_path / "gone.wandb").read()
