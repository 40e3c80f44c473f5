"""What is exported and imported again is the same: everything as JSON and as a ledger, the metrics as CSV and Parquet."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import Problem
from engine.ledger import Ledger, checkpoints, evaluations, events, jobs, labels, merging, metrics, orders, runs
from engine.ledger.exchange import adding, documents, plain, portable, tables
from engine.ledger.metrics import Writer
from engine.ledger.runs import Run
from engine.ledger.states import State
from tests.engine.ledger.conftest import Script

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
KEYS = st.one_of(
    st.sampled_from(["train/loss", "validation/loss"]), st.text("abc,\"'\n\t µ/.;", min_size=1, max_size=5)
)
STEPS = st.one_of(st.integers(0, 5), st.integers(-(2**40), 2**40))  # some of them replayed
ROWS = st.lists(
    st.tuples(STEPS, st.dictionaries(KEYS, st.floats(width=64), min_size=1, max_size=3)),
    max_size=12,
)
PLANS = st.lists(st.tuples(TEXT, ROWS, st.floats(allow_nan=False)), min_size=1, max_size=3)


def filled(
    ledger: Ledger, folder: Path, plans: Sequence[tuple[str, list[tuple[int, dict[str, float]]], float]]
) -> list[Run]:
    """Runs with something in every table that a run has."""
    for number, (text, rows, value) in enumerate(plans):
        run = runs.create(
            ledger, name=f"run {number}", runs_folder=folder, profile=text, settings={"a.b": text, "n": 1.5}
        )
        runs.record(ledger, run, environment={"torch": text}, fingerprints={"data": text})
        job = jobs.create(ledger, "train", run=run.id, argument={"why": text}, log=folder / "log")
        jobs.set_state(ledger, job, State.FAILED, cause="OOM", message=text)
        events.add(ledger, "sample", text, run=run.id, job=job.id, step=3, detail={"loss": value})
        events.add(ledger, "order", text, run=run.id, detail={"gap": float("nan")})
        orders.give(ledger, run.id, "rate", 0.5)
        checkpoints.add(ledger, run.id, step=3, path="c/3", size=9, validation=value, best=True)
        labels.set_note(ledger, run, text)
        labels.tag(ledger, [run], "medical")
        suite = evaluations.begin(
            ledger, run=run.id, model="m", model_name="base", suite="s", suite_fingerprint=text, conditions="c"
        )
        item = evaluations.Item("i", 0, text, text, None, "gold", 0.5, {"tokens": 3})
        evaluations.add_items(ledger, suite, [item])
        evaluations.finish(ledger, suite, n=1, scores={"accuracy": 0.5})
        with Writer(ledger, run.id) as writer:
            for step, values in rows:
                writer.log(step, values)
    return sorted(runs.listed(ledger), key=lambda run: run.id)


def through_json(source: Ledger, chosen: list[Run], target: Ledger, folder: Path) -> None:
    """Out as JSON and in again."""
    documents.write(source, chosen, folder / "runs.json", lambda done, total: None)
    documents.take(target, folder / "runs.json", lambda done, total: None)


def through_ledger(source: Ledger, chosen: list[Run], target: Ledger, folder: Path) -> None:
    """Out as a ledger of its own and in again."""
    portable.write(source, chosen, folder / "runs.db", lambda done, total: None, replace=True)
    merging.merge(target, folder / "runs.db")


def everything(ledger: Ledger) -> dict[str, documents.Document]:
    """All that is told of each run, by uid."""
    return {run.uid: json.loads(json.dumps(documents.of_run(ledger, run))) for run in runs.listed(ledger)}


def state_of(ledger: Ledger) -> object:
    """A number that rises with every change of a run, and how many rows there are."""
    return ledger.rows("SELECT max(changed), (SELECT count(*) FROM event), (SELECT count(*) FROM tail) FROM run")


@pytest.mark.parametrize("through", [through_json, through_ledger], ids=["json", "ledger"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans=PLANS)
def test_everything_comes_back(
    through: Callable[[Ledger, list[Run], Ledger, Path], None],
    plans: list[tuple[str, list[tuple[int, dict[str, float]]], float]],
) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        Ledger.open(Path(name) / "a.db") as source,
        Ledger.open(Path(name) / "b.db") as target,
    ):
        folder = Path(name)
        chosen = filled(source, folder, plans)
        through(source, chosen, target, folder)
        assert everything(target) == everything(source)
        before = state_of(target)
        through(source, chosen, target, folder)  # once more
        through(source, chosen, source, folder)  # and into the one that it came from
        assert state_of(target) == before
        assert everything(source) == everything(target)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans=PLANS)
def test_metrics_come_back_to_the_bit(
    kind: plain.Kind, plans: list[tuple[str, list[tuple[int, dict[str, float]]], float]]
) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        Ledger.open(Path(name) / "a.db") as source,
        Ledger.open(Path(name) / "b.db") as target,
    ):
        folder = Path(name)
        chosen = filled(source, folder, plans)
        write = tables.write_csv if kind == "csv" else tables.write_parquet
        write(source, chosen, folder / f"runs.{kind}", lambda done, total: None)
        for again in (False, True):
            for reader in plain.readers(folder / f"runs.{kind}", kind):
                imported = reader.read()
                if imported is None:
                    assert not any(metrics.keys(source, run.id) for run in chosen)
                    continue
                added = adding.add(target, imported, runs_folder=folder)
                assert (added.new, added.points == 0) == (not again, again)
        for run in chosen:
            keys = metrics.keys(source, run.id)
            if not keys:
                continue
            there = runs.find(target, run.uid)
            assert (there.name, metrics.keys(target, there.id)) == (run.name, keys)
            for key in keys:
                ours, theirs = metrics.curve(source, run.id, key), metrics.curve(target, there.id, key)
                for one, other in zip(
                    (ours.steps, ours.times, ours.values), (theirs.steps, theirs.times, theirs.values), strict=True
                ):
                    np.testing.assert_array_equal(one, other)
                    assert np.signbit(one).tolist() == np.signbit(other).tolist() or np.isnan(one).any()


def test_points_of_a_run_that_was_trained_here_are_not_overwritten(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    with Writer(ledger, run.id) as writer:
        writer.log(1, {"train/loss": 1.0})
    table = tmp_path / "edited.csv"
    table.write_text(f"uid,run,key,step,time,value\n{run.uid},speech,train/loss,1,2.0,0.001\n")
    imported = plain.readers(table, "csv")[0].read()
    assert imported is not None
    added = adding.add(ledger, imported, runs_folder=tmp_path)
    assert (added.points, added.left) == (0, adding.OWN)
    assert metrics.curve(ledger, run.id, "train/loss").values.tolist() == [1.0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-40], "not whole"),
        (lambda text: text.replace('"schema":', '"schema":9'), "newer"),
        (lambda text: text.replace('"format"', '"f"'), "not an export"),
        (lambda text: text.replace('"values":[1.0]', '"values":["much"]'), "not as it was exported"),
        (lambda text: text.replace('"values":[1.0]', '"values":[1.0,2.0]'), "not as it was exported"),
        (lambda text: text.replace('"cause":""', '"reason":""'), "not as it was exported"),
        (lambda text: text.replace('"tags":[]', '"tags":[{}]'), "not as it was exported"),
        (lambda text: text.replace('"name":"speech"', '"name":null'), "not as it was exported"),
        (lambda text: re.sub(r'"created":[\d.]+', '"created":1e20', text), "created is no time"),
    ],
)
def test_a_document_that_was_changed_is_refused_whole(
    ledger: Ledger, run: Run, tmp_path: Path, change: Callable[[str], str], said: str
) -> None:
    with Writer(ledger, run.id) as writer:
        writer.log(1, {"train/loss": 1.0})
    path = tmp_path / "runs.json"
    documents.write(ledger, [run], path, lambda done, total: None)
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    with Ledger.open(tmp_path / "other.db") as other:
        with pytest.raises(Problem, match=said):
            documents.take(other, path, lambda done, total: None)
        assert runs.listed(other) == []
    assert not list(tmp_path.glob(".importing-*"))


def test_a_full_export_leaves_nothing_half_written(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    to = tmp_path / "runs.csv"
    to.write_text("old")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tables.write_csv(ledger, [run], to, stop)
    assert to.read_text() == "old"
    assert list(tmp_path.glob(".runs.csv*")) == []


def test_a_disk_that_fills_leaves_nothing_half_written(disk: Script) -> None:
    printed = disk(
        """
from engine.errors import Problem
from engine.ledger import Ledger, runs
from engine.ledger.exchange import documents, portable, tables
from engine.ledger.metrics import Writer
import tempfile
with tempfile.TemporaryDirectory() as name, Ledger.open(Path(name) / "ledger.db") as ledger:
    run = runs.create(ledger, name="speech", runs_folder=disk, profile="", settings={})
    with Writer(ledger, run.id) as writer:
        for step in range(60_000):
            writer.log(step, {"loss": 1 / (step + 1)})
    for write, to in ((tables.write_csv, "a.csv"), (tables.write_parquet, "a.parquet"), (documents.write, "a.json"), (portable.write, "a.db")):
        try:
            write(ledger, [run], disk / to, lambda done, total: None)
            print("written", to)
        except Problem as problem:
            print(problem.code, to)
print(sorted(os.listdir(disk)))
""",
        size=128,
    )
    assert printed.splitlines() == [*(f"disk a.{suffix}" for suffix in ("csv", "parquet", "json", "db")), "[]"]


def test_a_ledger_on_read_only_media_is_exported_from(disk: Script, tmp_path: Path) -> None:
    printed = disk(
        f"""
from engine.ledger import Ledger, runs
from engine.ledger.exchange import documents, portable, tables
from engine.ledger.metrics import Writer
with Ledger.open(disk / "ledger.db") as ledger:
    run = runs.create(ledger, name="speech", runs_folder=disk, profile="", settings={{}})
    with Writer(ledger, run.id) as writer:
        writer.log(1, {{"loss": 0.5}})
read_only()
with Ledger.open(disk / "ledger.db") as ledger:
    chosen = runs.listed(ledger)
    print(ledger.read_only)
    for write, suffix in ((tables.write_csv, "csv"), (tables.write_parquet, "parquet"), (documents.write, "json"), (portable.write, "db")):
        to = Path({str(tmp_path)!r}) / f"speech.{{suffix}}"
        write(ledger, chosen, to, lambda done, total: None)
        print(suffix, to.stat().st_size > 0)
"""
    )
    assert printed.splitlines() == ["True", *(f"{suffix} True" for suffix in ("csv", "parquet", "json", "db"))]
    with Ledger.open(tmp_path / "speech.db", read_only=True) as opened:
        assert metrics.curve(opened, runs.find(opened, "speech").id, "loss").values.tolist() == [0.5]
