"""Files of anything: they are read, or refused in words, and whatever is read can be put into a ledger."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import Problem
from engine.ledger import Ledger, metrics, runs
from engine.ledger.exchange import adding, documents, event_files, plain, sources, wire
from engine.ledger.exchange.imported import Kind
from engine.ledger.exchange.tensorboard import EventFolder
from engine.ledger.exchange.wandb import OfflineRun
from engine.ledger.runs import Run
from tests.engine.ledger.exchange.conftest import EVENTS, FILES

CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "1e400", "nan", "-inf", "NaN", "2026-01-01", "1e12", "x", '"', "a,b", "1\n2", "🙂"]),
    st.lists(st.integers(), max_size=1),
    st.dictionaries(st.sampled_from(["a", "_type"]), st.floats(), max_size=1),
)
NAMES = st.sampled_from(["step", "loss", "time", "run", "uid", "key", "value", "", "eval_loss", "train/loss"])
ROWS = st.lists(st.dictionaries(NAMES, CELLS, max_size=5), max_size=6)
LENIENT = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def taken(folder: Path, path: Path, kind: Kind | None = None) -> None:
    """Import the file twice; the second time adds nothing."""
    with Ledger.open(folder / "ledger.db") as ledger:
        for again in (False, True):
            try:
                found = [reader.read() for reader in sources.find(path, kind).readers]
            except Problem:
                return
            for imported in found:
                if imported is not None:
                    added = adding.add(ledger, imported, runs_folder=folder)
                    assert not again or added.points == 0
        for run in runs.listed(ledger):
            for name in metrics.keys(ledger, run.id):
                curve = metrics.curve(ledger, run.id, name)
                assert all(abs(when) < adding.LATEST for when in curve.times.tolist())


@LENIENT
@given(rows=ROWS)
def test_lines_of_json(rows: list[dict[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "log.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        taken(Path(name), path)


@LENIENT
@given(
    rows=st.lists(
        st.lists(st.sampled_from(["1", "2.5", "step", "loss", "", "nan", '"', "x", "1e300", "🙂"]), max_size=4)
    )
)
def test_lines_of_cells(rows: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "log.csv"
        path.write_text("step,loss,time\n" + "".join(f"{','.join(row)}\n" for row in rows))
        taken(Path(name), path)


@LENIENT
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=80).map(str.encode)))
def test_bytes_under_every_name(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        for file in (
            "a.csv",
            "a.jsonl",
            "a.parquet",
            "a.db",
            "a.wandb",
            "trainer_state.json",
            "events.out.tfevents.1.box",
        ):
            path = Path(name) / "files" / file
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            taken(Path(name), path)


@LENIENT
@given(log=st.lists(st.dictionaries(st.sampled_from(["step", "loss", "eval_loss", "epoch"]), CELLS)), step=CELLS)
def test_a_trainers_state(log: list[dict[str, object]], step: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "trainer_state.json"
        path.write_text(json.dumps({"log_history": log, "global_step": step, "max_steps": step}))
        taken(Path(name), path)


@LENIENT
@given(message=st.binary(max_size=60))
def test_bytes_as_a_message(message: bytes) -> None:
    for read in (EventFolder(FILES, "x")._take, OfflineRun(FILES)._take):
        try:
            read(message)
        except ValueError:
            pass


@LENIENT
@given(data=st.data())
def test_a_message_that_was_changed(data: st.DataObject) -> None:
    """Behind the checksum: what a newer library might write."""
    for record in event_files.read(EVENTS, 0).records[:4]:
        changed = bytearray(record)
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        try:
            EventFolder(FILES, "x")._take(bytes(changed))
        except ValueError:
            pass


@given(number=st.integers(-(2**63), 2**63 - 1))
def test_whole_numbers_on_the_wire(number: int) -> None:
    left, varint = number % 2**64, bytearray()
    while left > 0x7F:
        varint.append(left & 0x7F | 0x80)
        left >>= 7
    ((field, value),) = wire.fields(b"\x08" + bytes([*varint, left]))
    assert (field, wire.signed(value)) == (1, number)


def test_a_time_that_is_none_is_when_the_file_was_written(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss,time\n1,2,nan\n2,3,\n3,4,1795000000\n")
    imported = plain.readers(path, "csv")[0].read()
    assert imported is not None
    times = imported.points["train/loss"].times.tolist()
    assert times[2] == 1795000000 and all(math.isclose(when, path.stat().st_mtime, abs_tol=1) for when in times[:2])


@pytest.mark.parametrize("uid", ["../../../etc", "/etc", "documents", "ABCDEF012345"])
def test_a_file_cannot_say_where_its_run_lies(uid: str, ledger: Ledger, run: Run, tmp_path: Path) -> None:
    table = tmp_path / "log.csv"
    table.write_text(f"uid,step,loss\n{uid},1,2\n")
    imported = plain.readers(table, "csv")[0].read()
    assert imported is not None
    added = adding.add(ledger, imported, runs_folder=tmp_path / "runs")
    assert runs.find(ledger, added.uid).folder.parent == tmp_path / "runs" and added.uid != uid

    document = tmp_path / "runs.json"
    documents.write(ledger, [run], document, lambda done, total: None)
    for hostile in (
        document.read_text().replace(run.uid, uid),
        document.read_text().replace(f"/{run.uid}", "/documents"),
    ):
        document.write_text(hostile)
        with Ledger.open(tmp_path / "other.db") as other, pytest.raises(Problem, match="not as it was exported"):
            documents.take(other, document, lambda done, total: None)


def test_a_document_without_runs_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"format": documents.FORMAT, "schema": 3, "runs": [{}]}))
    with pytest.raises(Problem, match="not as it was exported"):
        documents.take(ledger, path, lambda done, total: None)
