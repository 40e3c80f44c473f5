"""A run's family: where it comes from, in full even where its parents are gone, and what came of it."""

from __future__ import annotations

from pathlib import Path

from engine import removal
from engine.ledger import Ledger, artifacts, family, runs
from engine.ledger.runs import Run
from tests.engine.ledger.test_table import ended


def made(ledger: Ledger, name: str, parent: Run | None = None, base: str = "Qwen/Qwen3-4B") -> Run:
    settings = {
        "training.objective": "sft",
        "method.name": "lora",
        "model.base": base,
        "data.0.source": f"{name}.json",
        "data.0.columns.input": "x",
        "data.1.source": "more.json",
    }
    uid = parent.uid if parent else None
    run = runs.create(ledger, name=name, runs_folder=Path("/runs"), profile="", settings=settings, parent=uid)
    ended(ledger, run)
    return runs.find(ledger, run.uid)


def told(ledger: Ledger, run: Run) -> list[tuple[str, str, int]]:
    return [(each.relation, each.name, each.depth) for each in family.of_run(ledger, run)]


def test_a_family_goes_from_the_data_to_the_youngest(ledger: Ledger) -> None:
    first = made(ledger, "first")
    second = made(ledger, "second", first, base="/runs/first/model/best")
    third, fourth = made(ledger, "third", second), made(ledger, "fourth", second)
    made(ledger, "fifth", third)
    made(ledger, "stranger")
    runs.record(ledger, second, fingerprints={"data": "d" * 64, "base": "of the model that the first left"})
    assert told(ledger, second) == [
        ("data", "second.json", 0),
        ("data", "more.json", 0),
        ("base", "Qwen/Qwen3-4B", 0),  # what the chain began with, not the folder that the first run left
        ("parent", "first", -1),
        ("run", "second", 0),
        ("child", "third", 1),
        ("child", "fifth", 2),
        ("child", "fourth", 1),
    ]
    found = {each.name: each for each in family.of_run(ledger, second)}
    assert (found["second.json"].what, found["Qwen/Qwen3-4B"].what) == ("d" * 12, "")
    assert (found["fourth"].run, found["fourth"].what) == (fourth, "sft, lora")
    assert [name for kind, name, _ in told(ledger, runs.find(ledger, "fifth")) if kind == "parent"] == [
        "first",
        "second",
        "third",
    ]


def test_what_a_run_recorded_of_its_parents_outlives_them(ledger: Ledger) -> None:
    first = made(ledger, "first")
    second = made(ledger, "second", first)
    record = {
        "name": "first",
        "uid": first.uid,
        "objective": "dpo",
        "method": "full",
        "base": "the/base",
        "base_fingerprint": "b" * 64,
    }
    runs.record(ledger, second, environment={"lineage": [record]})
    removal.remove(ledger, first)
    parent = next(each for each in family.of_run(ledger, second) if each.relation == "parent")
    assert (parent.name, parent.binned, parent.run) == ("first", True, None)
    removal.purge(ledger, older_than=0)
    found = {each.relation: each for each in family.of_run(ledger, second)}
    assert found["parent"] == family.Relative("parent", "first", "dpo, full", depth=-1)
    assert found["base"] == family.Relative("base", "the/base", "b" * 12)


def test_a_parent_that_nothing_is_known_of_is_named_by_its_uid(ledger: Ledger) -> None:
    first = made(ledger, "first")
    second = made(ledger, "second", first)
    removal.remove(ledger, first)
    removal.purge(ledger, older_than=0)
    assert ("parent", first.uid, -1) in told(ledger, second)


def test_runs_that_name_each_other_end_the_search(ledger: Ledger) -> None:
    first = made(ledger, "first")
    second = made(ledger, "second", first)
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET parent = ? WHERE id = ?", (second.uid, first.id))
    assert [kind for kind, _, _ in told(ledger, runs.find(ledger, "first"))][-3:] == ["parent", "run", "child"]


def test_what_a_run_left_is_recorded_once_a_place(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    outside = tmp_path.parent / "elsewhere"
    artifacts.add(ledger, run, "adapter", run.folder / "adapter" / "best", size=1, fingerprint="a")
    artifacts.add(ledger, run, "export", outside, size=2, fingerprint="b")
    artifacts.add(ledger, run, "adapter", run.folder / "adapter" / "best", size=3, fingerprint="c")
    left = artifacts.of_run(ledger, run.id)
    assert [(each.kind, each.path, each.bytes, each.fingerprint) for each in left] == [
        ("export", str(outside), 2, "b"),
        ("adapter", "adapter/best", 3, "c"),
    ]
