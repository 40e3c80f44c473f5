"""Copies of a ledger that is in use, archives for read-only places, and the copy that jobs keep beside the runs."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.ledger import Ledger, beside_runs, copies, events, metrics, runs
from engine.ledger.runs import Run
from engine.storage import Storage
from tests.engine.ledger.conftest import Script


def test_a_backup_is_whole_and_of_one_moment_while_others_write(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    """The writer adds a point to two metrics at once: a copy that has one has the other."""
    over = threading.Event()

    def write() -> None:
        with metrics.Writer(ledger, run.id) as log:
            step = 0
            while not over.is_set():
                log.log(step, {"a": 1.0, "b": 2.0})
                events.add(ledger, "test", str(step), run=run.id)
                step += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            copies.backup(ledger.path, tmp_path / f"{number}.db")
    finally:
        over.set()
        writer.join()
    counts = []
    for number in range(5):
        with Ledger.open(tmp_path / f"{number}.db") as copy:
            assert copy.value("PRAGMA integrity_check") == "ok"
            curves = [metrics.curve(copy, run.id, name).steps.tolist() for name in "ab"]
            assert curves[0] == curves[1]
            counts.append(len(events.of_run(copy, run.id, limit=10**6)))
    assert counts == sorted(counts)
    assert (tmp_path / "0.db").stat().st_mode & 0o777 == 0o600


def test_an_archive_opens_where_nothing_can_be_written(disk: Script) -> None:
    said = disk(
        """
from engine.errors import Problem
from engine.ledger import Ledger, copies, metrics, runs
with Ledger.open(disk / "ledger.db") as ledger:
    run = runs.create(ledger, name="speech", runs_folder=disk, profile="", settings={})
    with metrics.Writer(ledger, run.id) as log:
        for step in range(100):
            log.log(step, {"loss": 1.0 / (step + 1)})
    (disk / "kept").mkdir()
    copies.archive(ledger.path, disk / "kept" / "ledger.db")
    print([path.name for path in (disk / "kept").iterdir()])
read_only()
with Ledger.open(disk / "kept" / "ledger.db") as kept:
    found = runs.find(kept, "speech")
    print(kept.read_only, len(metrics.curve(kept, found.id, "loss").steps), kept.value("PRAGMA journal_mode"))
try:
    copies.backup(disk / "kept" / "ledger.db", disk / "another.db")
except Problem as problem:
    print(problem.code)
"""
    )
    assert said.splitlines() == ["['ledger.db']", "True 100 delete", "disk"]


def test_a_full_disk_leaves_the_copy_that_stood_there(disk: Script, tmp_path: Path) -> None:
    said = disk(
        f"""
from engine.errors import Problem
from engine.ledger import Ledger, copies, metrics, runs
with Ledger.open(Path({str(tmp_path / "ledger.db")!r})) as ledger:
    run = runs.create(ledger, name="speech", runs_folder=disk, profile="", settings={{}})
    copies.backup(ledger.path, disk / "copy.db")
    with metrics.Writer(ledger, run.id) as log:
        for step in range(30_000):
            log.log(step, {{f"m/{{n}}": step * 0.7 ** n for n in range(8)}})
    for make in (copies.backup, copies.archive):
        try:
            make(ledger.path, disk / "copy.db", replace=True)
        except Problem as problem:
            print(problem.code, problem.what.endswith("copy.db cannot be written"), [path.name for path in disk.iterdir()])
with Ledger.open(disk / "copy.db", read_only=True) as copy:
    print([run.name for run in runs.listed(copy)])
""",
        size=1500,
    )
    assert said.splitlines() == ["disk True ['copy.db']", "disk True ['copy.db']", "['speech']"]


def test_what_stands_at_a_copy_s_place_is_not_replaced_unasked_or_in_use(
    ledger: Ledger, run: Run, tmp_path: Path
) -> None:
    to = tmp_path / "copy.db"
    to.write_text("mine")
    for path, replace, said in (
        (to, False, "--force"),
        (ledger.path, True, "another"),
        (tmp_path, True, "Name the file"),
    ):
        with pytest.raises(Problem, match=said):
            copies.backup(ledger.path, path, replace=replace)
    assert to.read_text() == "mine"
    to.unlink()
    with Ledger.open(to) as other:
        runs.create(other, name="theirs", runs_folder=tmp_path, profile="", settings={})
        with pytest.raises(Problem, match="in use"):
            copies.backup(ledger.path, to, replace=True)
        assert [each.name for each in runs.listed(other)] == ["theirs"]
    copies.backup(ledger.path, to, replace=True)
    with Ledger.open(to) as copy:
        assert [each.uid for each in runs.listed(copy)] == [run.uid]


def test_a_damaged_ledger_does_not_replace_a_good_copy(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    with metrics.Writer(ledger, run.id) as log:
        for step in range(2000):
            log.log(step, {"loss": 1.0})
    copies.backup(ledger.path, tmp_path / "copy.db")
    good = (tmp_path / "copy.db").read_bytes()
    with sqlite3.connect(tmp_path / "copy.db") as connection:
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'segment'").fetchone()[0]
    connection.close()
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(good[: 4096 * (root - 1)] + b"\x07" * 4096 + good[4096 * root :])
    for make in (copies.backup, copies.archive):
        with pytest.raises(Problem, match="damaged"):
            make(damaged, tmp_path / "copy.db", replace=True)
    assert (tmp_path / "copy.db").read_bytes() == good


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, tmp_path: Path) -> Path:
    """A runs folder on a network disk."""
    far = tmp_path / "far"
    far.mkdir()

    def storage_of(path: Path) -> Storage:
        return Storage(Path("/"), "nfs4" if path.is_relative_to(far) else "ext4", 1 << 40, 1 << 40)

    monkeypatch.setattr(beside_runs, "storage_of", storage_of)
    return far


def test_a_job_keeps_a_copy_beside_runs_on_a_network_disk_and_a_new_machine_restores_it(
    ledger: Ledger, run: Run, lasting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside_runs, "EVERY", 0.05)
    appeared = threading.Event()
    with beside_runs.kept(ledger, lasting):
        for _ in range(200):
            if beside_runs.found(lasting):
                appeared.set()
                break
            threading.Event().wait(0.05)
        events.add(ledger, "test", "the last word", run=run.id)
    assert appeared.is_set()
    (copy,) = beside_runs.found(lasting)
    assert copy == beside_runs.place(ledger, lasting)
    with Ledger.open(tmp_path / "new" / "ledger.db") as new:
        merged = beside_runs.restore(new, beside_runs.found(lasting))
        assert merged.added == (run.uid,)
        assert [each.text for each in events.of_run(new, runs.find(new, run.uid).id)] == ["the last word"]
        assert beside_runs.restore(new, beside_runs.found(lasting)).kept == (run.uid,)


def test_a_new_ledger_in_the_place_of_a_lost_one_leaves_its_copy_alone(ledger: Ledger, run: Run, lasting: Path) -> None:
    with beside_runs.kept(ledger, lasting):
        pass
    ledger.close()
    ledger.path.unlink()
    with Ledger.open(ledger.path) as new:
        young = runs.create(new, name="young", runs_folder=lasting, profile="", settings={})
        with beside_runs.kept(new, lasting):
            pass
        assert len(beside_runs.found(lasting)) == 2
        beside_runs.restore(new, beside_runs.found(lasting))
        assert {each.uid for each in runs.listed(new)} == {run.uid, young.uid}


@pytest.mark.parametrize("in_the_way", ["the copy", "whose turn it is"])
def test_a_copy_that_cannot_be_made_holds_up_nothing(
    in_the_way: str, ledger: Ledger, run: Run, lasting: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turn = ledger.path.with_name(f"{ledger.path.name}.copying")
    (turn if in_the_way == "whose turn it is" else beside_runs.place(ledger, lasting)).mkdir()
    with beside_runs.kept(ledger, lasting):
        pass
    assert "no copy of the ledger" in caplog.text


def test_a_disk_that_does_not_answer_holds_up_no_job(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(path: Path) -> Storage:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(beside_runs, "storage_of", stale)
    with beside_runs.kept(ledger, tmp_path):
        pass
    assert beside_runs.found(tmp_path) == []


@pytest.mark.parametrize(
    ("own", "theirs", "kept"),
    [("ext4", "ext4", False), ("overlay", "ext4", True), ("overlay", "overlay", False), ("ext4", "nfs4", True)],
)
def test_a_copy_is_kept_where_the_ledger_s_disk_may_go_before_the_runs_does(
    own: str, theirs: str, kept: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kinds = {tmp_path / "ledger.db": own, tmp_path / "runs": theirs}
    monkeypatch.setattr(beside_runs, "storage_of", lambda path: Storage(Path("/"), kinds[path], 1, 1))
    assert bool(beside_runs.wanted(tmp_path / "ledger.db", tmp_path / "runs")) is kept
