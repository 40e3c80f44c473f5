"""A deleted run lies in the bin with its files: its name is free, it comes back whole, and after a while it goes for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import lineage, removal
from engine.errors import Problem
from engine.ledger import (
    Ledger,
    artifacts,
    checkpoints,
    evaluations,
    events,
    family,
    jobs,
    labels,
    metrics,
    orders,
    runs,
)
from engine.ledger.evaluations import Item
from engine.ledger.runs import Run
from engine.ledger.states import State


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The runs folder."""
    return tmp_path / "runs"


def made(ledger: Ledger, folder: Path, name: str = "speech", parent: str | None = None) -> Run:
    run = runs.create(ledger, name=name, runs_folder=folder, profile="", settings={}, parent=parent)
    (run.folder / "adapter").mkdir(parents=True)
    (run.folder / "adapter" / "weights").write_bytes(b"x" * 100)
    job = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
    jobs.set_state(ledger, job, State.FINISHED)
    return runs.find(ledger, run.uid)


def test_a_run_goes_into_the_bin_and_comes_back_as_it_was(ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    labels.tag(ledger, [run], "medical")
    removal.remove(ledger, run)
    assert not run.folder.exists()
    assert runs.listed(ledger) == [] and runs.by_id(ledger, run.id) is None
    with pytest.raises(Problem, match="speech is in the bin") as refused:
        runs.find(ledger, "speech")
    assert "workbench runs restore speech" in refused.value.do
    (binned,) = removal.binned(ledger)
    assert binned.uid == run.uid and binned.deleted is not None
    assert removal.size(binned) == 100
    assert removal.restore(ledger, binned) == run
    assert (run.folder / "adapter" / "weights").read_bytes() == b"x" * 100
    assert labels.tags(ledger, run) == ("medical",)
    with pytest.raises(Problem, match="is not in the bin"):
        removal.restore(ledger, run)


ONCE = {"context", "identity", "key", "keyset", "tail", "sqlite_sequence"}
"""Tables that have no rows of a run, or none once its metrics are sealed."""


def test_deleting_takes_everything_of_the_run_and_nothing_else(ledger: Ledger, folder: Path) -> None:
    run, other = made(ledger, folder), made(ledger, folder, "other")
    for each in (run, other):
        job = jobs.newest_training(ledger, each.id)
        assert job is not None
        with metrics.Writer(ledger, each.id) as log:
            log.log(0, {"train/loss": 1.0})
        events.add(ledger, "test", "text", run=each.id, job=job.id)
        orders.give(ledger, each.id, "pause")
        checkpoints.add(ledger, each.id, step=1, path="checkpoints/1", size=9, validation=None, best=True)
        evaluation = evaluations.begin(
            ledger, run=each.id, model=each.uid, model_name="m", suite="s", suite_fingerprint="f", conditions="c"
        )
        evaluations.add_items(ledger, evaluation, [Item("1", 0, "p", "a", "a", "a", 1.0, {})])
        labels.tag(ledger, [each], "x")
        artifacts.add(ledger, each, "adapter", each.folder / "adapter", size=1, fingerprint="f")
    removal.remove(ledger, run)
    tables = {str(name) for (name,) in ledger.rows("SELECT name FROM sqlite_master WHERE type = 'table'")} - ONCE
    assert {name: ledger.value(f"SELECT count(*) FROM {name}") for name in tables} == {
        **dict.fromkeys(tables, 2),
        "said": 3,  # of the run that is in the bin also that it was put there
    }
    removal.purge(ledger, older_than=0)
    assert {name: ledger.value(f"SELECT count(*) FROM {name}") for name in tables} == dict.fromkeys(tables, 1)


def test_who_still_asks_about_a_run_that_was_removed_for_good_is_told(ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    removal.remove(ledger, run)
    removal.purge(ledger, older_than=0)
    for ask in (runs.document, family.of_run):
        with pytest.raises(Problem, match="removed for good"):
            ask(ledger, run)


def test_a_run_in_the_bin_takes_no_orders(ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    removal.remove(ledger, run)
    for _ in range(2):
        with pytest.raises(Problem, match="The run was deleted"):
            orders.give(ledger, run.id, "stop")
        removal.purge(ledger, older_than=0)


def test_a_name_is_free_while_its_run_is_in_the_bin(ledger: Ledger, folder: Path) -> None:
    first = made(ledger, folder)
    removal.remove(ledger, first)
    second = made(ledger, folder)
    assert (second.name, runs.find(ledger, "speech")) == ("speech", second)
    assert removal.restore(ledger, first).name == "speech-2"
    for run in (first, second):
        labels.rename(ledger, run, f"speech-{run.id}")
        labels.rename(ledger, run, "again")
        removal.remove(ledger, runs.find(ledger, "again"))
    with pytest.raises(Problem, match="means 2 runs"):
        runs.find(ledger, "again", binned=True)


def test_what_lay_in_the_bin_for_long_goes_with_the_next_one(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, young, next_one = (made(ledger, folder, name) for name in ("old", "young", "next"))
    for run, day in ((old, 1), (young, 5), (next_one, 9)):
        monkeypatch.setattr("time.time", lambda now=1.8e9 + 86400.0 * day: now)
        removal.remove(ledger, run)
    assert [run.name for run in removal.binned(ledger)] == ["next", "young"]
    assert sorted(path.name for path in (folder / removal.BIN).iterdir()) == sorted([young.uid, next_one.uid])
    gone = removal.purge(ledger, older_than=0)
    assert {run.name for run in gone} == {"next", "young"}
    assert list((folder / removal.BIN).iterdir()) == []
    assert ledger.value("SELECT count(*) FROM run") == 0


def test_who_empties_the_bin_leaves_what_another_has_restored_meanwhile(ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    removal.remove(ledger, run)
    chosen = removal.binned(ledger)
    removal.restore(ledger, run)
    assert removal.purge_runs(ledger, chosen) == []
    assert runs.find(ledger, run.uid) and (run.folder / "adapter" / "weights").is_file()


@pytest.mark.parametrize("uid", ["0123456789ab", "precious"])
def test_a_folder_that_is_not_ours_stays(uid: str, ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    elsewhere = folder / "precious"
    run.folder.rename(elsewhere)
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET folder = ?, uid = ? WHERE id = ?", (str(elsewhere), uid, run.id))
    removal.remove(ledger, runs.find(ledger, uid))
    assert removal.purge(ledger, older_than=0)
    assert (elsewhere / "adapter" / "weights").exists()


def test_a_run_without_files_here_is_deleted_and_restored_all_the_same(ledger: Ledger) -> None:
    run = runs.create(ledger, name="elsewhere", runs_folder=Path("/nowhere/runs"), profile="", settings={})
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET state = 'finished'")
    removal.remove(ledger, runs.find(ledger, run.uid))
    assert removal.restore(ledger, run).name == "elsewhere"


def test_what_cannot_be_moved_is_not_deleted(ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    (folder / removal.BIN).write_text("a file stands where the bin should be")
    with pytest.raises(Problem, match="cannot be deleted") as refused:
        removal.remove(ledger, run)
    assert refused.value.code == "disk"
    assert runs.find(ledger, "speech") == run and run.folder.is_dir()


def test_what_cannot_be_moved_back_stays_in_the_bin(ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    removal.remove(ledger, run)
    binned = folder / removal.BIN / run.uid
    with Ledger.open(ledger.path, read_only=True) as looked_at, pytest.raises(Problem, match="read-only"):
        removal.restore(looked_at, run)
    assert binned.is_dir() and not run.folder.exists()
    run.folder.symlink_to("nowhere")  # no folder can be moved onto it
    with pytest.raises(Problem, match="cannot be restored") as refused:
        removal.restore(ledger, run)
    assert refused.value.code == "disk" and binned.is_dir() and runs.listed(ledger) == []
    run.folder.unlink()
    assert removal.restore(ledger, run) == run


@pytest.mark.parametrize("moved", [True, False])
def test_a_death_between_the_mark_and_the_move_loses_nothing(ledger: Ledger, folder: Path, moved: bool) -> None:
    run = made(ledger, folder)
    removal.remove(ledger, run)
    if not moved:
        (folder / removal.BIN / run.uid).rename(run.folder)
    assert removal.size(removal.binned(ledger)[0]) == 100
    assert removal.restore(ledger, run) == run
    removal.remove(ledger, run)
    if not moved:
        (folder / removal.BIN / run.uid).rename(run.folder)
    removal.purge(ledger, older_than=0)
    assert not run.folder.exists()


def test_files_of_a_run_that_another_machine_deleted_long_ago_are_kept_here_as_long(
    ledger: Ledger, folder: Path
) -> None:
    run, other = made(ledger, folder), made(ledger, folder, "other")
    with ledger.transaction() as connection:  # as merging that machine's ledger does
        connection.execute("UPDATE run SET deleted = 1.0 WHERE id = ?", (run.id,))
    removal.remove(ledger, other)
    assert (folder / removal.BIN / run.uid / "adapter" / "weights").exists() and not run.folder.exists()
    assert removal.restore(ledger, run).folder.is_dir()


def test_who_restores_while_another_deletes_keeps_the_files(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(ledger, folder)
    move = removal._put_into_bin

    def too_late(ledger: Ledger, run: Run) -> None:
        removal.restore(ledger, run)  # as another process does between the mark and the move
        move(ledger, run)

    monkeypatch.setattr(removal, "_put_into_bin", too_late)
    removal.remove(ledger, run)
    assert runs.find(ledger, "speech") == run and (run.folder / "adapter" / "weights").exists()


def test_a_run_that_another_machine_trained_when_last_heard_of_can_be_deleted_where_its_files_are_not(
    ledger: Ledger, folder: Path
) -> None:
    run = made(ledger, folder)
    job = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
    with ledger.transaction() as connection:
        where = "host = 'elsewhere', boot_id = 'x', pid = 1, state = 'running', heartbeat = 1.0, created = 1.0"
        connection.execute(f"UPDATE job SET {where} WHERE id = ?", (job.id,))
        connection.execute("UPDATE run SET state = 'running'")
    with pytest.raises(Problem, match="speech is running"):
        removal.remove(ledger, runs.find(ledger, "speech"))
    run.folder.rename(folder / "gone")
    removal.remove(ledger, runs.find(ledger, "speech"))
    assert [found.uid for found in removal.binned(ledger)] == [run.uid]


def test_what_others_need_stays(ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    runs.set_result(ledger, run, kind="model", path="model/best")
    child = made(ledger, folder, "child", parent=run.uid)
    runs.set_result(ledger, child, kind="adapter", path="adapter/best")
    run, child = runs.find(ledger, run.uid), runs.find(ledger, child.uid)
    with pytest.raises(Problem, match="speech is the base model of child"):
        removal.remove(ledger, run)
    removal.remove(ledger, child)
    removal.remove(ledger, run)
    assert len(removal.binned(ledger)) == 2


def test_who_goes_on_from_a_run_in_the_bin_is_told_how_to_get_it_back(ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    child = made(ledger, folder, "child", parent=run.uid)
    assert lineage.parent_of(ledger, child) == run
    removal.remove(ledger, run)
    with pytest.raises(Problem, match="goes on from was deleted") as refused:
        lineage.parent_of(ledger, child)
    assert refused.value.do == f"Get it back: workbench runs restore {run.uid}"
    removal.purge(ledger, older_than=0)
    with pytest.raises(Problem) as refused:
        lineage.parent_of(ledger, child)
    assert "There is no run" in refused.value.why


def test_a_run_in_the_bin_is_not_started(ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    removal.remove(ledger, run)
    with pytest.raises(Problem, match="in the bin"):
        jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")


def test_a_live_run_is_refused_even_if_the_callers_is_old(ledger: Ledger, folder: Path) -> None:
    run = made(ledger, folder)
    jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
    with pytest.raises(Problem, match="is queued"):
        removal.remove(ledger, run)
    assert run.folder.is_dir()
