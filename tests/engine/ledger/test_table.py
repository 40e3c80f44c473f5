"""The table of runs: the same as reading run by run, whole or by what has changed since, and never with a run that is in the bin."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import removal
from engine.errors import Problem
from engine.ledger import Ledger, facts, jobs, labels, metrics, runs, summaries, table
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.ledger.table import Figures

LOSS = "validation/loss"


def made(ledger: Ledger, name: str, folder: Path = Path("/runs"), **known: object) -> Run:
    return runs.create(ledger, name=name, runs_folder=folder, profile="", settings=known)


def measured(ledger: Ledger, run: Run, *losses: float, key: str = LOSS, first: int = 0) -> None:
    with metrics.Writer(ledger, run.id) as log:
        for step, loss in enumerate(losses, start=first):
            log.log(step, {key: loss})


def figures(ledger: Ledger, run: Run, key: str) -> Figures:
    known = summaries.of_run(ledger, run)[key]
    return Figures(known.last, known.best, known.smoothed, 0)


def ended(ledger: Ledger, run: Run, state: State = State.FINISHED, cause: str = "") -> None:
    job = jobs.create(ledger, "train", run=run.id, argument={}, log=Path("/log"))
    jobs.set_state(ledger, job, state, cause=cause)


def test_a_row_is_the_run_with_its_tags_and_the_figures_that_were_asked_for(ledger: Ledger) -> None:
    first, second = made(ledger, "first"), made(ledger, "second")
    measured(ledger, first, 3.0, 1.0, 2.0)
    measured(ledger, first, 5.0, key="train/loss")
    measured(ledger, second, 9.0, 4.0, key="train/tokens_per_second")
    labels.tag(ledger, [first], "medical")
    labels.tag(ledger, [first], "a")
    found = table.read(ledger, [LOSS, "nobody/has"])
    assert [row.name for row in found.rows] == ["second", "first"]
    newer, older = found.rows
    assert runs.by_ids(ledger, [older.id, newer.id]) == [runs.find(ledger, "first"), runs.find(ledger, "second")]
    assert (older.tags, newer.tags) == (("a", "medical"), ())
    assert older.metrics.keys() == {LOSS} and newer.metrics == {}
    assert older.metrics[LOSS] == figures(ledger, first, LOSS)
    assert older.metrics[LOSS][:2] == (2.0, 1.0)
    assert found.count == 2
    rate = table.read(ledger, ["train/tokens_per_second"]).rows[0].metrics["train/tokens_per_second"]
    assert rate == figures(ledger, second, "train/tokens_per_second") and rate.best == 9.0


def test_a_table_has_as_many_metrics_as_it_can_read(ledger: Ledger) -> None:
    run = made(ledger, "a")
    keys = [f"train/{number}" for number in range(table.MOST + 1)]
    with metrics.Writer(ledger, run.id) as log:
        log.log(0, dict.fromkeys(keys, 1.0))
    assert len(table.read(ledger, keys[1:]).rows[0].metrics) == table.MOST
    with pytest.raises(Problem, match="51 metrics are more"):
        table.read(ledger, keys)


def test_a_row_has_the_fields_of_a_run() -> None:
    own = {"changed", "tags", "metrics"}
    assert own | {field.name for field in fields(Run)} >= {*table.Row._fields}


def test_a_last_value_that_is_no_number_leaves_the_best(ledger: Ledger) -> None:
    run = made(ledger, "a")
    measured(ledger, run, 1.0, float("nan"))
    (row,) = table.read(ledger, [LOSS]).rows
    assert row.metrics[LOSS][:2] == (None, 1.0) and row.metrics[LOSS].gaps == 1
    assert math.isnan(float(str(facts.fact(row, {}, "loss"))))


def test_a_run_that_measured_nothing_but_nan_is_told_from_one_that_measured_nothing(ledger: Ledger) -> None:
    made(ledger, "nothing")
    measured(ledger, made(ledger, "diverged"), float("nan"), float("inf"))
    diverged, nothing = table.read(ledger, [LOSS]).rows
    assert diverged.metrics[LOSS] == (None, None, None, 2) and LOSS not in nothing.metrics
    assert math.isnan(float(str(facts.fact(diverged, {}, "loss")))) and facts.fact(nothing, {}, "loss") is None


def test_the_archive_and_the_bin_stand_in_no_table_unless_asked_for(ledger: Ledger, tmp_path: Path) -> None:
    for name in ("kept", "archived", "binned"):
        ended(ledger, made(ledger, name, tmp_path))
    labels.archive(ledger, [runs.find(ledger, "archived")])
    removal.remove(ledger, runs.find(ledger, "binned"))
    assert [row.name for row in table.read(ledger).rows] == ["kept"]
    assert [row.name for row in table.read(ledger, archived=True).rows] == ["archived", "kept"]
    assert (table.read(ledger).count, table.read(ledger, archived=True).count) == (1, 2)


def test_a_dead_process_is_seen_though_nothing_was_written(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(ledger, "a")
    job = jobs.sign_in(ledger, jobs.create(ledger, "train", run=run.id, argument={}, log=Path("/log")), pid=os.getpid())
    jobs.set_state(ledger, job, State.RUNNING)
    before = table.read(ledger)
    assert before.rows[0].state is State.RUNNING
    assert table.refreshed(ledger, before) is before
    monkeypatch.setattr("engine.machine.started", lambda pid: None)
    now = table.refreshed(ledger, before)
    assert now.rows[0].state is State.LOST
    assert table.refreshed(ledger, now) is now


def test_an_increment_has_only_what_changed(ledger: Ledger) -> None:
    for name in ("a", "b", "c"):
        ended(ledger, made(ledger, name))
    before = table.read(ledger, [LOSS])
    assert table.read(ledger, [LOSS], after=before.changed).rows == ()
    labels.tag(ledger, [runs.find(ledger, "b")], "x")
    increment = table.read(ledger, [LOSS], after=before.changed)
    assert [row.name for row in increment.rows] == ["b"]
    labels.archive(ledger, [runs.find(ledger, "a")])
    increment = table.read(ledger, [LOSS], after=increment.changed)
    assert increment.rows == () and increment.gone == {runs.find(ledger, "a").id} and increment.count == 2
    now = table.refreshed(ledger, before)
    assert [row.name for row in now.rows] == ["c", "b"]
    assert now.rows[0] is before.rows[0]


def test_what_was_removed_for_good_leaves_a_table_that_is_kept(ledger: Ledger) -> None:
    for name in ("a", "b"):
        ended(ledger, made(ledger, name))
    before = table.read(ledger)
    removal.remove(ledger, runs.find(ledger, "b"))
    assert removal.purge(ledger, older_than=0)
    labels.set_note(ledger, runs.find(ledger, "a"), "seen")
    assert [row.name for row in table.refreshed(ledger, before).rows] == ["a"]


def test_a_run_that_is_imported_late_stands_where_it_was_made(ledger: Ledger) -> None:
    new, old = made(ledger, "new"), made(ledger, "old")
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET created = 1e9 WHERE id = ?", (old.id,))
    assert [row.id for row in table.read(ledger).rows] == [new.id, old.id]


def test_a_number_is_not_given_twice_when_the_newest_run_is_purged(ledger: Ledger) -> None:
    for name in ("a", "b"):
        ended(ledger, made(ledger, name))
    removal.remove(ledger, runs.find(ledger, "b"))
    before = table.read(ledger)
    assert removal.purge(ledger, older_than=0)
    labels.set_note(ledger, runs.find(ledger, "a"), "seen")
    assert table.refreshed(ledger, before).rows[0].note == "seen"


def _changes() -> list[Callable[[Ledger, Run], object]]:
    return [
        lambda ledger, run: labels.set_note(ledger, run, f"{run.note}."),
        lambda ledger, run: labels.tag(ledger, [run], f"t{run.id}"),
        lambda ledger, run: labels.untag(ledger, [run], f"t{run.id}"),
        lambda ledger, run: labels.archive(ledger, [run]),
        lambda ledger, run: labels.unarchive(ledger, [run]),
        lambda ledger, run: removal.remove(ledger, run),
        lambda ledger, run: [removal.restore(ledger, each) for each in removal.binned(ledger)],
        lambda ledger, run: removal.purge(ledger, older_than=0),
        lambda ledger, run: ended(ledger, made(ledger, "more")),
        lambda ledger, run: runs.progress(ledger, run, step=run.step + 1, steps=9, ends=None),
        lambda ledger, run: measured(ledger, run, 1.0, first=run.step),
        lambda ledger, run: labels.rename(ledger, run, f"renamed {run.id}"),
    ]


@given(st.lists(st.tuples(st.sampled_from(_changes()), st.integers(0, 5)), max_size=12), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_table_that_is_kept_up_to_date_is_the_table_read_anew(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[Callable[[Ledger, Run], object], int]], archived: bool
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    with Ledger.open(folder / "ledger.db") as ledger:
        for name in ("a", "b", "c"):
            ended(ledger, made(ledger, name, folder))
        kept = table.read(ledger, [LOSS], archived=archived)
        for change, which in changes:
            there = runs.listed(ledger)
            if there:
                change(ledger, there[which % len(there)])
            kept = table.refreshed(ledger, kept)
            anew = table.read(ledger, [LOSS], archived=archived)
            assert kept.rows == anew.rows and kept.count == anew.count


def test_settings_are_read_in_one_go_with_equal_values_kept_once(ledger: Ledger) -> None:
    known = {"method.rank": 16, "training.packing": True, "weight": 1, "share": 1.0, "method.targets": ["q", "v"]}
    first, second = made(ledger, "a", **known), made(ledger, "b", **{**known, "method.rank": 8})
    found = table.settings(ledger)
    assert found == {first.id: known, second.id: {**known, "method.rank": 8}}
    assert [type(found[first.id][key]) for key in ("training.packing", "weight", "share")] == [bool, int, float]
    assert table.settings(ledger, [second.id]) == {second.id: {**known, "method.rank": 8}}
    assert table.settings(ledger, []) == {}


def test_one_run_with_odd_settings_does_not_hide_the_others(ledger: Ledger) -> None:
    odd, plain = made(ledger, "odd", path="rows\udcff.json", limit=float("inf")), made(ledger, "plain", rank=1)
    assert table.settings(ledger) == {odd.id: {"path": "rows\udcff.json", "limit": math.inf}, plain.id: {"rank": 1}}


def test_settings_that_differ_are_told_with_what_was_done_first() -> None:
    runs_settings: list[dict[str, object]] = [
        {
            "training.learning_rate": 1e-4,
            "data.0.source": "a",
            "training.seed": 1,
            "title": "x",
            "same": [1],
            "method.rank": 4,
        },
        {"training.learning_rate": 2e-4, "data.0.source": "b", "training.seed": 2, "title": "y", "same": [1]},
        {
            "training.learning_rate": 2e-4,
            "data.0.source": "b",
            "training.seed": 2,
            "title": "y",
            "same": [1],
            "method.rank": 4,
        },
    ]
    assert table.differing(runs_settings) == ["training.learning_rate", "method.rank", "data.0.source", "training.seed"]
    assert table.differing(runs_settings[:1]) == table.differing([]) == []
    assert table.differing([{}, {"method.rank": 4}]) == table.differing([{"method.rank": 4}, {}]) == ["method.rank"]


@pytest.fixture
def row(ledger: Ledger) -> table.Row:
    """A failed run with two measured losses."""
    run = made(ledger, "speech")
    measured(ledger, run, 1.0, 2.0)
    ended(ledger, run, State.FAILED, "OOM at 12")
    labels.tag(ledger, [run], "medical")
    return table.read(ledger, [LOSS]).rows[0]


def test_facts_are_found_by_the_names_that_people_use(row: table.Row) -> None:
    known = {
        "model.base": "Qwen/Qwen3-4B",
        "model.quantization": "nf4",
        "method.name": "lora",
        "method.rank": 16,
        "method.dropout": 0.05,
        "training.learning_rate": 1e-4,
        "evaluation.suites": ["retention", "traps"],
        "a.seed": 1,
        "b.seed": 2,
    }
    expected: dict[str, object] = {
        "name": "speech",
        "state": "failed",
        "cause": "OOM at 12",
        "model": "Qwen3-4B",
        "method": "qlora",
        "rank": 16,
        "lr": 1e-4,
        "rate": 1e-4,
        "loss": 2.0,
        "best": 1.0,
        "validation/loss.best": 1.0,
        "validation/loss": 2.0,
        "train/loss": None,
        "tag": ("medical",),
        "dropout": 0.05,
        "evaluation.suites": ("retention", "traps"),
        "seed": None,  # two settings end in it
        "a.seed": 1,
        "nothing": None,
        "baseline": "no",
        "age": 60.0,
        "ends": None,
    }
    assert {name: facts.fact(row, known, name, now=row.created + 60) for name in expected} == expected
    assert facts.fact(row, {**known, "method.name": "full"}, "rank") is None


def test_every_name_that_is_offered_means_something(row: table.Row) -> None:
    known: dict[str, object] = {
        "method.dropout": 0.1,
        "method.dora": False,
        "data.0.split": None,
        "evaluation.suites": ["a"],
    }
    offered = {field.name: field for field in facts.fields([known], [LOSS])}
    assert {name for name in offered if "." in name and "/" not in name} == set(known)
    assert offered["method.dropout"].aliases == ("dropout",)
    assert [offered[name].kind for name in known] == ["number", "any", "any", "any"]
    assert [name for name in offered if "/" in name] == [LOSS, f"{LOSS}.best", f"{LOSS}.smooth"]
    for field in offered.values():
        for name in (field.name, *field.aliases):
            value = facts.fact(row, known, name)
            assert value is None or isinstance(
                value, {"number": float | int, "duration": float}.get(field.kind, object)
            )
