"""`workbench ledger`, and the way of a ledger through machines that do not last: its copy beside the runs, and back."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input

from engine.ledger import Ledger, beside_runs, copies, jobs, labels, metrics, runs, summaries
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.storage import storage_of
from screens.session import Session
from tests.screens.driving import screen, until
from workbench import cli
from workbench.app import WorkbenchApp
from workbench.checks import storage
from workbench.first_start import PlacesScreen
from workbench.settings import Settings


def make(path: Path, name: str) -> Run:
    """A ledger with a run that has finished."""
    with Ledger.open(path) as ledger:
        run = runs.create(ledger, name=name, runs_folder=path.parent / "runs", profile="rank = 8", settings={"rank": 8})
        job = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
        with metrics.Writer(ledger, run.id) as log:
            log.log(1, {"train/loss": 0.5})
        jobs.set_state(ledger, job, State.FINISHED)
        return runs.find(ledger, run.uid)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    code = cli.main(["ledger", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_ledgers_are_merged_and_what_could_not_be_is_said(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    laptop, box = (make(tmp_path / name / "ledger.db", "speech") for name in ("laptop", "box"))
    files = [str(tmp_path / name / "ledger.db") for name in ("laptop", "box")]
    code, said = told(capsys, "merge", *files)
    assert (code, said["added"]) == (0, [laptop.uid, box.uid])
    assert isinstance(said["renamed"], dict)
    assert said["renamed"].keys() == {box.uid}
    for where, times in ((home / "ledger.db", 1), (Path(files[0]), 2)):
        with Ledger.open(where) as ledger:
            for _ in range(times):
                run = runs.find(ledger, laptop.uid)
                jobs.set_state(
                    ledger, jobs.create(ledger, "train", run=run.id, argument={}, log=tmp_path), State.STOPPED
                )
    assert cli.main(["ledger", "merge", files[0]]) == 1
    said_now = capsys.readouterr()
    assert "runs: 0 added, 1 updated" in said_now.out
    assert "went on in both ledgers" in said_now.err
    assert cli.main(["ledger", "merge", str(tmp_path / "none.db")]) == 2
    assert capsys.readouterr().out == ""


def test_a_note_that_gives_way_is_told(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(home / "ledger.db", "speech")
    other = str(tmp_path / "other.db")
    assert cli.main(["ledger", "backup", other]) == 0
    assert cli.main(["runs", "note", "speech", "rank too low"]) == 0
    assert cli.main(["runs", "archive", "speech", "--ledger", other]) == 0
    capsys.readouterr()
    assert cli.main(["ledger", "merge", other]) == 0
    assert "rank too low" not in capsys.readouterr().err  # what was said there was something else
    assert cli.main(["runs", "note", "speech", "rank fine", "--ledger", other]) == 0
    capsys.readouterr()
    assert cli.main(["ledger", "merge", other]) == 0
    assert capsys.readouterr().err.endswith("Here it was:\nrank too low\n")
    assert told(capsys, "merge", other)[1]["notes"] == {}
    assert cli.main(["runs", "note", "speech", "rank too low"]) == 0
    assert cli.main(["runs", "note", "speech", "rank too low, alpha too", "--ledger", other]) == 0
    capsys.readouterr()
    assert told(capsys, "merge", other)[1]["notes"] == {}  # it has only been gone on with


def test_a_ledger_that_cannot_be_read_holds_up_no_other(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = make(tmp_path / "box" / "ledger.db", "speech")
    (tmp_path / "text.db").write_text("step,loss\n1,2\n")
    files = [str(tmp_path / name) for name in ("text.db", "none.db", "box/ledger.db")]
    assert cli.main(["ledger", "merge", *files, "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["added"] == [there.uid]
    assert "damaged or something else" in said.err and "There is no ledger" in said.err


def test_a_backup_goes_to_a_file_or_a_pipe(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make(home / "ledger.db", "speech")
    to = tmp_path / "copy.db"
    assert told(capsys, "backup", str(to))[1]["path"] == str(to)
    assert cli.main(["ledger", "backup", str(to)]) == 2
    assert "--force" in capsys.readouterr().err
    assert cli.main(["ledger", "archive", str(to), "--force"]) == 0
    command = [sys.executable, "-m", "workbench", "ledger", "backup", "-"]
    piped = subprocess.run(command, capture_output=True, check=True).stdout
    (tmp_path / "piped.db").write_bytes(piped)
    for copy in (to, tmp_path / "piped.db"):
        with Ledger.open(copy) as ledger:
            assert runs.find(ledger, "speech").uid == run.uid


def test_check_says_no_until_what_it_found_is_mended(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make(home / "ledger.db", "speech")
    assert told(capsys, "check") == (0, {"path": str(home / "ledger.db"), "findings": [], "mended": 0, "left": 0})
    with Ledger.open(home / "ledger.db") as ledger, ledger.transaction() as connection:
        connection.execute("UPDATE series SET last = 99")
    code, said = told(capsys, "check")
    assert (code, said["left"]) == (1, 1)
    assert cli.main(["ledger", "check", "--fix"]) == 0
    assert "mended" in capsys.readouterr().out
    assert told(capsys, "check")[0] == 0
    with Ledger.open(home / "ledger.db") as ledger:
        assert summaries.of_run(ledger, run)["train/loss"].last == 0.5


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE run_document SET settings = '{'", "rows of run_document with settings that are not JSON: 1"),
        ("UPDATE run SET state = 'x'", "rows of run with an unknown state: 1"),
        ("ALTER TABLE run DROP COLUMN gpu", "there is no run.gpu"),
        ("DROP TABLE series", "there is no series"),
    ],
)
def test_rows_that_cannot_be_read_are_the_ledgers_fault_and_no_bug(
    statement: str, words: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(home / "ledger.db", "speech")
    with sqlite3.connect(home / "ledger.db") as connection:
        connection.execute(statement)
    connection.close()
    assert cli.main(["runs", "list"]) == 2
    assert f"{home / 'ledger.db'} is damaged\n{words[0].upper()}{words[1:]}." in capsys.readouterr().err
    assert cli.main(["ledger", "check"]) == 1
    assert words in capsys.readouterr().out


def test_where_the_ledger_is_and_what_is_in_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(home / "ledger.db", "speech")
    said = told(capsys)[1]
    assert (said["path"], said["runs"], said["points"], said["copies"]) == (str(home / "ledger.db"), 1, 1, [])


def test_a_ledger_that_is_gone_is_restored_from_the_copies_beside_the_runs(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ledger", "restore"]) == 2
    assert "no copy of a ledger" in capsys.readouterr().err
    (home / "runs").mkdir(parents=True)
    uids = []
    for host in ("box", "pod-1"):
        uids.append(make(tmp_path / host / "ledger.db", f"on-{host}").uid)
        copies.backup(tmp_path / host / "ledger.db", home / "runs" / f"{beside_runs.PREFIX}{host}.db")
    assert cli.main(["runs", "list"]) == 0
    assert "workbench ledger restore" in capsys.readouterr().err
    assert cli.main(["runs", "show", "on-box"]) == 2
    assert "workbench ledger restore" in capsys.readouterr().err
    code, said = told(capsys, "restore")
    assert code == 0
    assert isinstance(said["added"], list)
    assert sorted(said["added"]) == sorted(uids)
    assert told(capsys, "restore")[1]["added"] == []


@pytest.mark.parametrize("answer", ["y", "n"])
async def test_an_empty_ledger_is_offered_what_lies_beside_the_runs(
    answer: str, ledger: Ledger, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    make(tmp_path / "old.db", "speech")
    copies.backup(tmp_path / "old.db", folder / f"{beside_runs.PREFIX}old.db")
    app = WorkbenchApp(Session(ledger, tmp_path / "else"), Settings(runs_folder=folder))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, PlacesScreen))
        app.screen.query_one(Input).value = str(folder)
        await pilot.press("enter")
        await until(pilot, lambda: "A copy of a ledger lies beside the runs" in screen(pilot))
        await pilot.press(answer)
        said = "1 run restored" if answer == "y" else "workbench ledger restore"
        await until(pilot, lambda: said in screen(pilot))
        if answer == "y":
            await until(pilot, lambda: "speech" in screen(pilot))
        assert len(runs.listed(ledger)) == (answer == "y")


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on a disk that does not last."""
    if not storage_of(Path("/dev/shm")).short_lived:
        pytest.skip("/dev/shm is no disk in memory here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_a_job_leaves_a_copy_that_knows_how_it_ended(memory: Path, tmp_path: Path) -> None:
    """The job fails at once, for its profile is none: what counts is what its process leaves."""
    if storage_of(tmp_path).short_lived:
        pytest.skip("no disk here lasts")
    with Ledger.open(memory / "ledger.db") as ledger:
        run = runs.create(ledger, name="speech", runs_folder=tmp_path, profile="no profile", settings={})
        labels.set_note(ledger, run, "lost with the machine?")
        run.folder.mkdir()
        job = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
    command = [sys.executable, "-P", "-m", "engine", job.uid, "--ledger", str(memory / "ledger.db")]
    assert subprocess.run(command, capture_output=True, check=False, timeout=100).returncode
    (copy,) = beside_runs.found(tmp_path)
    with Ledger.open(copy) as kept:
        found = runs.find(kept, "speech")
        assert (found.state, found.note) == (State.FAILED, "lost with the machine?")


def test_doctor_says_whether_the_copy_is_there(memory: Path, tmp_path: Path) -> None:
    if storage_of(tmp_path).short_lived:
        pytest.skip("no disk here lasts")
    make(memory / "ledger.db", "speech")
    found = {check.name: check for check in storage.check_all(memory / "ledger.db", tmp_path)}
    assert "workbench ledger backup" in found["ledger copy"].advice
    assert found["ledger disk"].ok
    with Ledger.open(memory / "ledger.db") as ledger:
        copies.backup(ledger.path, beside_runs.place(ledger, tmp_path))
    found = {check.name: check for check in storage.check_all(memory / "ledger.db", tmp_path)}
    assert found["ledger copy"].ok
