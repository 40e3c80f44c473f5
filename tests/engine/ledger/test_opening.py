"""Opening a ledger: what is not ours is refused and left alone, what cannot be written is read."""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.ledger import Ledger, metrics, opening, runs, schema, sealing
from engine.ledger.packing import Packer, Row
from engine.ledger.runs import Run
from engine.storage import storage_of

Script = Callable[..., str]


def test_a_new_ledger_and_all_beside_it_are_private(tmp_path: Path) -> None:
    path = tmp_path / "home" / "deeper" / "ledger.db"
    before = os.umask(0)
    try:
        with Ledger.open(path) as ledger:
            runs.create(ledger, name="speech", runs_folder=tmp_path, profile="", settings={})
            ledger.version()
            files = sorted(file.name for file in path.parent.iterdir())
            assert files == ["ledger.db", "ledger.db-shm", "ledger.db-wal", "ledger.db.lock"]
            assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
            assert path.parent.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_closing_moves_everything_into_the_one_file(ledger: Ledger, tmp_path: Path) -> None:
    runs.create(ledger, name="speech", runs_folder=tmp_path, profile="", settings={})
    ledger.version()
    ledger.close()
    assert sorted(file.name for file in ledger.path.parent.iterdir()) == ["ledger.db", "ledger.db.lock"]
    ledger.close()
    for use in (lambda: ledger.rows("SELECT 1"), ledger.version, lambda: runs.listed(ledger)):
        with pytest.raises(Problem, match="closed"):
            use()


def test_what_is_not_a_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n" * 1000)
    with pytest.raises(Problem, match="damaged or something else") as caught:
        Ledger.open(path)
    assert "--ledger" in caught.value.do
    assert path.read_text() == "my notes\n" * 1000
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("pragma", ["application_id = 1196444487", "user_version = 1", "journal_mode = DELETE"])
def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, pragma: str) -> None:
    path = tmp_path / "map.gpkg"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA {pragma}")
    if pragma.startswith("journal"):
        connection.execute("CREATE TABLE town (name TEXT)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(Problem, match="not a Workbench ledger"):
        Ledger.open(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["map.gpkg"]


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    with pytest.raises(Problem, match="is empty"):
        Ledger.open(path, read_only=True)
    with Ledger.open(path) as ledger:
        assert runs.listed(ledger) == []


def test_a_truncated_ledger_is_a_problem_and_not_a_short_list(ledger: Ledger, tmp_path: Path) -> None:
    for number in range(40):
        runs.create(ledger, name=f"run {number}", runs_folder=tmp_path, profile="x" * 2000, settings={})
    ledger.close()
    os.truncate(ledger.path, ledger.path.stat().st_size // 2)
    with pytest.raises(Problem, match="damaged") as caught:
        Ledger.open(ledger.path)
    assert "Restore a copy" in caught.value.do


def test_damage_found_while_reading_is_a_problem(ledger: Ledger, tmp_path: Path) -> None:
    for number in range(200):
        runs.create(ledger, name=f"run {number}", runs_folder=tmp_path, profile="", settings={})
    ledger.close()
    page = 4096
    with ledger.path.open("r+b") as file:
        for place in range(2 * page, ledger.path.stat().st_size, page):
            file.seek(place)
            file.write(b"\xff" * 100)
    with pytest.raises(Problem, match="damaged"), Ledger.open(ledger.path, read_only=True) as damaged:
        runs.listed(damaged)


def test_a_newer_ledger_is_refused_and_left_alone(ledger: Ledger) -> None:
    ledger.close()
    connection = sqlite3.connect(ledger.path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(Problem, match="newer Workbench") as caught:
        Ledger.open(ledger.path)
    assert f"schema is {schema.VERSION + 1}" in caught.value.why
    assert "pip install -U" in caught.value.do


@pytest.mark.parametrize("version", [-7, 0, 1, 2])
def test_a_ledger_whose_version_something_else_has_changed_is_refused_and_left_alone(
    ledger: Ledger, version: int
) -> None:
    ledger.close()
    connection = sqlite3.connect(ledger.path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    before = ledger.path.read_bytes()
    with pytest.raises(Problem) as caught:
        Ledger.open(ledger.path)
    assert f"{version}" in caught.value.why
    assert "Restore a copy" in caught.value.do or "restore a copy" in caught.value.do
    assert ledger.path.read_bytes() == before


@pytest.mark.parametrize("size", [1, 60, 100, 511, 512, 4095, 4096, 8192, -4096])
def test_a_ledger_cut_off_anywhere_is_refused_and_left_alone(ledger: Ledger, tmp_path: Path, size: int) -> None:
    for number in range(40):
        runs.create(ledger, name=f"run {number}", runs_folder=tmp_path, profile="x" * 2000, settings={})
    ledger.close()
    os.truncate(ledger.path, size % ledger.path.stat().st_size)
    before = ledger.path.read_bytes()
    for read_only in (True, False):
        with pytest.raises(Problem, match=r"damaged|no whole ledger|not a Workbench ledger"):
            Ledger.open(ledger.path, read_only=read_only)
    assert ledger.path.read_bytes() == before


def test_bytes_changed_among_the_rows_are_a_problem_or_are_not_noticed_but_never_a_crash(
    ledger: Ledger, run: Run
) -> None:
    rows = [Row(0, step, step / 7, ("train/loss",), (1.0,)) for step in range(6000)]
    with ledger.transaction() as connection:
        Packer(run.id).write(connection, rows[:3000])
        sealing.seal(connection, run.id)
        Packer(run.id).write(connection, rows[3000:])  # in the pages that those have left
    begin = 4096 * int(str(ledger.value("SELECT max(rootpage) FROM sqlite_schema")))  # before lies the schema: SQL
    ledger.close()
    whole = ledger.path.read_bytes()
    draw = random.Random(7)
    refused = 0
    for _ in range(100):
        changed = bytearray(whole)
        for _ in range(draw.choice([1, 10, 100])):
            changed[draw.randrange(begin, len(changed))] = draw.randrange(256)
        ledger.path.write_bytes(changed)
        try:
            with Ledger.open(ledger.path, read_only=True) as other:
                metrics.keys(other, run.id)
                metrics.curve(other, run.id, "train/loss")
        except Problem as problem:
            refused += problem.code == "ledger"
    assert refused


def test_a_missing_ledger_is_made_only_to_write(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="no ledger at"):
        Ledger.open(tmp_path / "none.db", read_only=True)
    with pytest.raises(Problem, match="is a folder"):
        Ledger.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(Problem, match="Cannot make a ledger") as caught:
        Ledger.open(tmp_path / "file" / "ledger.db")
    assert "WORKBENCH_HOME" in caught.value.do


def test_a_read_only_ledger_refuses_to_write_and_sees_what_others_write(ledger: Ledger, tmp_path: Path) -> None:
    with Ledger.open(ledger.path, read_only=True) as other:
        before = other.version()
        runs.create(ledger, name="speech", runs_folder=tmp_path, profile="", settings={})
        assert other.version() != before
        assert [run.name for run in runs.listed(other)] == ["speech"]
        with pytest.raises(Problem, match="read-only"):
            runs.create(other, name="more", runs_folder=tmp_path, profile="", settings={})


def test_two_names_of_one_file_are_one_ledger(ledger: Ledger, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(ledger.path)
    with Ledger.open(link) as other:
        assert other.path == ledger.path
        runs.create(other, name="speech", runs_folder=tmp_path, profile="", settings={})
    assert [run.name for run in runs.listed(ledger)] == ["speech"]
    assert not link.with_name("link.db.lock").exists()


def test_on_a_disk_that_cannot_be_written_a_closed_ledger_opens(disk: Script) -> None:
    said = disk("""
from engine.ledger import Ledger, runs
with Ledger.open(disk / "ledger.db") as ledger:
    runs.create(ledger, name="speech", runs_folder=disk, profile="", settings={})
read_only()
with Ledger.open(disk / "ledger.db") as ledger:
    print(ledger.read_only, [run.name for run in runs.listed(ledger)], ledger.version() == ledger.version())
""")
    assert said == "True ['speech'] True\n"


def test_on_a_disk_that_cannot_be_written_an_open_ledger_is_read_with_its_log_or_not_at_all(disk: Script) -> None:
    said = disk("""
from engine.errors import Problem
from engine.ledger import Ledger, runs
ledger = Ledger.open(disk / "ledger.db")
runs.create(ledger, name="speech", runs_folder=disk, profile="", settings={})
files = {file.name: file.read_bytes() for file in disk.iterdir()}
for name in ("with", "without"):
    (disk / name).mkdir()
    for file, content in files.items():
        if name == "with" or not file.endswith("-shm"):
            (disk / name / file).write_bytes(content)
ledger.close()
read_only()
with Ledger.open(disk / "with" / "ledger.db") as ledger:
    print(ledger.read_only, [run.name for run in runs.listed(ledger)])
try:
    Ledger.open(disk / "without" / "ledger.db")
except Problem as problem:
    print(problem.what)
    print(problem.do)
""")
    first, second, third = said.splitlines()
    assert first == "True ['speech']"
    assert "ledger.db-wal holds changes that cannot be read here" in second
    assert "Copy ledger.db and ledger.db-wal together" in third


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may read, as are those above it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="workbench-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become somebody else")
def test_somebody_elses_live_ledger_is_read_as_it_changes(public: Path) -> None:
    """The folder may not be written, a live log lies beside the file: permission bits, so as a user without rights."""
    with Ledger.open(public / "ledger.db") as ledger:
        runs.create(ledger, name="first", runs_folder=public, profile="", settings={})
        for file in public.iterdir():
            file.chmod(0o644)
        ready_to_read, ready = os.pipe()
        go_to_read, go = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.setgid(65534)
                os.setuid(65534)
                with Ledger.open(ledger.path) as theirs:
                    before = theirs.version()
                    os.write(ready, b"x")
                    os.read(go_to_read, 1)
                    names = [run.name for run in runs.listed(theirs)]
                    as_expected = theirs.read_only and theirs.version() != before and names == ["second", "first"]
                os._exit(0 if as_expected else 1)
            finally:
                os._exit(2)
        os.close(ready)
        os.read(ready_to_read, 1)
        runs.create(ledger, name="second", runs_folder=public, profile="", settings={})
        os.write(go, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_older_ledger_that_cannot_be_written_says_what_to_do(disk: Script) -> None:
    said = disk("""
from engine.errors import Problem
from engine.ledger import Ledger, schema
Ledger.open(disk / "ledger.db").close()
read_only()
schema.VERSION += 1
try:
    Ledger.open(disk / "ledger.db")
except Problem as problem:
    print(problem.what, problem.do, sep="|")
""")
    assert "older Workbench" in said
    assert "|Copy it to a folder you can write to" in said


def test_a_disk_too_full_for_a_new_ledger_says_so_and_a_later_start_works(disk: Script) -> None:
    said = disk(
        """
from engine.errors import Problem
from engine.ledger import Ledger, runs
(disk / "fill").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 8192))
try:
    Ledger.open(disk / "ledger.db")
except Problem as problem:
    print(problem.code, problem.do)
(disk / "fill").unlink()
with Ledger.open(disk / "ledger.db") as ledger:
    print(runs.listed(ledger))
""",
        size=1024,
    )
    first, second = said.splitlines()
    assert first.startswith("disk ")
    assert second == "[]"


def test_on_a_full_disk_a_closed_ledger_is_read(disk: Script) -> None:
    said = disk(
        """
from engine.errors import Problem
from engine.ledger import Ledger, labels, runs
with Ledger.open(disk / "ledger.db") as ledger:
    run = runs.create(ledger, name="speech", runs_folder=disk, profile="", settings={})
with (disk / "fill").open("wb", buffering=0) as file:
    try:
        while file.write(bytes(1024)):
            pass
    except OSError:
        pass
with Ledger.open(disk / "ledger.db") as ledger:
    print([each.name for each in runs.listed(ledger)])
    try:
        labels.tag(ledger, [run], "x")
    except Problem as problem:
        print(problem.code, problem.what)
    (disk / "fill").unlink()
    labels.tag(ledger, [run], "x")
    print(labels.tags(ledger, run))
""",
        size=1024,
    )
    first, second, third = said.splitlines()
    assert first == "['speech']"
    assert second.startswith("disk ") and second.endswith("the disk is full")
    assert third == "('x',)"


def test_a_file_in_a_folder_that_may_not_be_written_is_read_only(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has to put files beside it. Root may write anywhere, so the answer of the system is made up."""
    ledger.close()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != ledger.path.parent and access(path, mode))
    with Ledger.open(ledger.path) as opened:
        assert opened.read_only and runs.listed(opened) == []


def test_a_ledger_on_a_network_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:31 / {tmp_path} rw shared:1 - nfs4 server:/home rw\n"
    monkeypatch.setattr(opening, "storage_of", lambda path: storage_of(path, mounts))
    with pytest.raises(Problem, match="network file system \\(nfs4\\)") as caught:
        Ledger.open(tmp_path / "ledger.db")
    assert "WORKBENCH_HOME" in caught.value.do
