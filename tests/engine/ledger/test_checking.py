"""What is wrong with a ledger and the files that it tells of is found, and mended where that loses nothing."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine import folders
from engine.ledger import Ledger, artifacts, checking, checkpoints, holdings, integers, jobs, metrics, runs, summaries
from engine.ledger.checking import Finding
from engine.ledger.runs import Run
from engine.ledger.states import State


def quiet(done: int, total: int, what: str) -> None:
    pass


def rows_found(ledger: Ledger, *, fix: bool = False) -> list[Finding]:
    return list(checking.damage(ledger)) or list(checking.check(ledger, fix=fix, progress=quiet))


def files_found(ledger: Ledger, folder: Path, *, fix: bool = False, contents: bool = True) -> list[Finding]:
    return list(holdings.check(ledger, folder, fix=fix, contents=contents, progress=quiet))


def write_weights(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(os.urandom(1000))


@pytest.fixture
def trained(ledger: Ledger, tmp_path: Path) -> Run:
    """A run that has everything on disk that the ledger says."""
    run = runs.create(ledger, name="speech", runs_folder=tmp_path / "runs", profile="", settings={})
    job = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
    with metrics.Writer(ledger, run.id) as log:
        for step in range(5000):
            log.log(step, {"loss": 1.0 / (step + 1), "gap": float("nan")})
        log.log(17, {"loss": 5.0, "gap": float("inf")})  # replayed
    for step in (10, 20):
        size = folders.publish(run.folder / "checkpoints" / str(step), write_weights)
        checkpoints.add(ledger, run.id, step=step, path=f"checkpoints/{step}", size=size, validation=None, best=False)
    result = run.folder / "adapter" / "best"
    size = folders.publish(result, write_weights)
    artifacts.add(ledger, run, "adapter", result, size=size, fingerprint=folders.published_fingerprint(result))
    runs.set_result(ledger, run, kind="adapter", path="adapter/best")
    runs.progress(ledger, run, step=20, steps=20, ends=None)
    jobs.set_state(ledger, job, State.FINISHED)
    return runs.find(ledger, run.uid)


def test_nothing_is_found_where_all_is_well(ledger: Ledger, trained: Run) -> None:
    assert rows_found(ledger) == []
    assert files_found(ledger, trained.folder.parent) == []


def execute(ledger: Ledger, statement: str, *, references: bool = True) -> None:
    """A program that is not ours, at work on the file."""
    with sqlite3.connect(ledger.path) as connection:
        connection.execute(f"PRAGMA foreign_keys = {int(references)}")
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE series SET min = -1 WHERE key = (SELECT id FROM key WHERE name = 'loss')", "summary"),
        ("UPDATE series SET n = n + 1, gaps = gaps + 1", "summary"),
        ("UPDATE series SET smoothed = smoothed * 1.001", "summary"),
        ("INSERT INTO event (run, time, level, kind, text) VALUES (99, 0, 'info', 'x', 'x')", "reference"),
    ],
)
def test_what_can_be_counted_anew_or_belongs_to_nothing_is_mended(
    statement: str, kind: str, ledger: Ledger, trained: Run
) -> None:
    before = summaries.of_run(ledger, trained)
    execute(ledger, statement, references=False)
    assert {each.kind for each in rows_found(ledger)} == {kind}
    assert {(each.kind, each.mended) for each in rows_found(ledger, fix=True)} == {(kind, True)}
    assert rows_found(ledger) == []
    assert summaries.of_run(ledger, trained) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE packed SET vals = substr(vals, 1, 80) WHERE id = 1",
        "DELETE FROM packed WHERE id = 1",
        "UPDATE segment SET steps = x'07' WHERE id = (SELECT min(id) FROM segment)",
        "UPDATE segment SET first_step = first_step + 1 WHERE id = (SELECT min(id) FROM segment)",
        "UPDATE segment SET last_step = 99999 WHERE id = (SELECT min(id) FROM segment)",
    ],
)
def test_metrics_that_cannot_be_read_are_told_and_not_touched(statement: str, ledger: Ledger, trained: Run) -> None:
    execute(ledger, statement)
    found = rows_found(ledger, fix=True)
    assert {each.kind for each in found} == {"segment"}
    assert all(each.run == trained.uid and "speech" in each.what and not each.mended for each in found)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([*range(7), 8, 7, *range(9, 4096)], "not those that it is filed under"),
        ([*range(4095), 4096], "two segments of the same metrics hold step 4096"),
    ],
)
def test_a_step_that_stands_twice_or_out_of_order_is_told(
    steps: list[int], why: str, ledger: Ledger, trained: Run
) -> None:
    with ledger.transaction() as connection:
        packed = integers.pack(np.array(steps))
        connection.execute("UPDATE segment SET steps = ?, last_step = ? WHERE first_step = 0", (packed, steps[-1]))
    (found,) = rows_found(ledger)
    assert found.kind == "segment" and why in found.what


def test_a_damaged_file_is_told(ledger: Ledger, trained: Run) -> None:
    root = ledger.value("SELECT rootpage FROM sqlite_schema WHERE name = 'job_by_run'")
    assert isinstance(root, int)
    ledger.close()
    content = bytearray(ledger.path.read_bytes())
    content[4096 * (root - 1) : 4096 * root] = b"\x0a" + b"\0" * 4095  # an empty index
    ledger.path.write_bytes(bytes(content))
    with Ledger.open(ledger.path) as damaged:
        found = rows_found(damaged)
    assert {each.kind for each in found} == {"integrity"}
    assert all("\n" not in each.what and "copy" in each.do for each in found)


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE run_document SET settings = '{"method.rank": 1'""",
        "UPDATE run_document SET profile = '= 3'",
        "UPDATE run SET state = 'finishdd'",
        "UPDATE job SET places = ''",
        "ALTER TABLE run DROP COLUMN gpu",
        "DROP TABLE artifact",
    ],
)
def test_rows_that_cannot_be_read_are_damage_though_sqlite_sees_none(
    statement: str, ledger: Ledger, trained: Run
) -> None:
    execute(ledger, statement)
    assert {each.kind for each in rows_found(ledger)} == {"integrity"}


def test_nan_in_json_is_no_damage(ledger: Ledger, trained: Run) -> None:
    execute(ledger, """UPDATE run_document SET environment = '{"loss": NaN, "rate": -Infinity}'""")
    assert rows_found(ledger) == []


def spoil(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(os.urandom(1000))


def remove(folder: Path) -> None:
    folder.rename(folder.with_name(f"moved-{folder.name}"))


@pytest.mark.parametrize(
    ("place", "change", "kind"),
    [
        ("checkpoints/10", remove, "checkpoint"),
        ("checkpoints/20", spoil, "checkpoint"),
        ("adapter/best", remove, "result"),
        ("adapter/best", spoil, "result"),
        ("", remove, "folder"),
    ],
)
def test_files_that_are_missing_or_not_what_was_written(
    place: str, change: Callable[[Path], None], kind: str, ledger: Ledger, trained: Run
) -> None:
    change(trained.folder / place)
    found = files_found(ledger, trained.folder.parent)
    assert [(each.kind, each.run, each.mended) for each in found] == [(kind, trained.uid, False)]
    quick = files_found(ledger, trained.folder.parent, contents=False)
    assert [each.kind for each in quick] == ([] if change is spoil else [kind])


def test_a_checkpoint_that_is_gone_is_forgotten(ledger: Ledger, trained: Run) -> None:
    remove(trained.folder / "checkpoints" / "10")
    assert [each.mended for each in files_found(ledger, trained.folder.parent, fix=True)] == [True]
    assert [each.step for each in checkpoints.of_run(ledger, trained.id)] == [20]


def test_a_run_that_is_at_work_is_left_alone(ledger: Ledger, trained: Run) -> None:
    job = jobs.create(ledger, "train", run=trained.id, argument={}, log=trained.folder / "log.txt")
    jobs.sign_in(ledger, job, pid=os.getpid())
    spoil(trained.folder / "adapter" / "best")
    assert files_found(ledger, trained.folder.parent) == []


def test_a_run_of_another_machine_has_its_files_there(ledger: Ledger, trained: Run) -> None:
    remove(trained.folder)
    execute(ledger, "UPDATE job SET host = 'elsewhere', boot_id = 'b'")
    assert files_found(ledger, trained.folder.parent) == []


def test_folders_that_nobody_knows_are_named_and_stay(ledger: Ledger, trained: Run) -> None:
    parent = trained.folder.parent
    for folder in (parent / "0123456789ab", parent / ".bin" / "ba9876543210", parent / "notes"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    found = files_found(ledger, parent, fix=True)
    assert [each.kind for each in found] == ["orphan", "orphan"]
    assert {name for each in found for name in ("0123456789ab", "ba9876543210") if name in each.what} == {
        "0123456789ab",
        "ba9876543210",
    }
    assert (parent / "0123456789ab" / "file").exists()


def test_what_processes_that_died_left_half_made_is_removed_when_nobody_can_want_it(ledger: Ledger) -> None:
    old, young = (ledger.path.with_name(f".ledger.db.{name}.new") for name in ("old", "young"))
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - 3 * 86400,) * 2)
    assert [(each.kind, each.mended) for each in files_found(ledger, ledger.path.parent, fix=True)] == [
        ("leftover", True)
    ]
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("what", [".importing-1", ".merging-1", ".copying-1"])
def test_a_ledger_that_was_made_for_a_moment_is_removed_too(what: str, ledger: Ledger) -> None:
    left = ledger.path.with_name(what)
    left.mkdir()
    (left / "ledger.db").touch()
    os.utime(left, (time.time() - 3 * 86400,) * 2)
    assert [each.kind for each in files_found(ledger, ledger.path.parent, fix=True)] == ["leftover"]
    assert not left.exists()


def test_what_a_broken_off_pull_left_in_a_run_s_folder_is_removed(ledger: Ledger, trained: Run) -> None:
    left = trained.folder / ".pulling-1"
    left.mkdir()
    os.utime(left, (time.time() - 3 * 86400,) * 2)
    assert [each.kind for each in files_found(ledger, trained.folder.parent, fix=True)] == ["leftover"]
    assert not left.exists()
