"""An older ledger is brought up to date, with a copy made first; what goes wrong leaves it as it was."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.ledger import Ledger, metrics, runs, schema, summaries
from engine.ledger.metrics import Writer

NEXT = (
    "ALTER TABLE run ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'",
    "CREATE TABLE mood (run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE, name TEXT NOT NULL)",
)


@pytest.fixture
def older(home: Path, tmp_path: Path) -> Path:
    """A ledger with one run, of the version before the one that `newer` makes current."""
    with Ledger.open(home / "ledger.db") as ledger:
        runs.create(ledger, name="speech", runs_folder=tmp_path, profile="", settings={})
        return ledger.path


def make_current(monkeypatch: pytest.MonkeyPatch, *statements: str) -> None:
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, statements))
    monkeypatch.setattr(schema, "VERSION", len(schema.MIGRATIONS))


def version(path: Path) -> int:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_an_older_ledger_becomes_current_and_a_copy_stays(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = schema.VERSION
    make_current(monkeypatch, *NEXT)
    with Ledger.open(older) as ledger:
        assert ledger.rows("SELECT name, colour FROM run") == [("speech", "grey")]
        assert ledger.value("SELECT count(*) FROM mood") == 0
    assert version(older) == before + 1
    copy = older.with_name(f"ledger.db.before-{before + 1}")
    assert version(copy) == before
    assert copy.stat().st_mode & 0o777 == 0o600
    monkeypatch.undo()
    with Ledger.open(copy) as ledger:
        assert [run.name for run in runs.listed(ledger)] == ["speech"]


def test_a_migration_that_fails_leaves_the_file_as_it_was(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_current(monkeypatch, NEXT[0], "CREATE TABLE run (x)")
    with pytest.raises(Problem, match="could not be brought up to date") as caught:
        Ledger.open(older)
    assert "already exists" in caught.value.why
    monkeypatch.undo()
    with Ledger.open(older) as ledger:
        assert [run.name for run in runs.listed(ledger)] == ["speech"]
        assert "colour" not in [row[1] for row in ledger.rows("PRAGMA table_info(run)")]


def test_two_that_open_at_once_migrate_once(older: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_current(monkeypatch, *NEXT)
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: Ledger.open(older), range(8)))
    for ledger in opened:
        assert len(runs.listed(ledger)) == 1
        ledger.close()


@pytest.mark.parametrize("folder", [f"new-{number}" for number in range(10)])  # a race is seldom lost the first time
def test_two_that_make_one_at_once_make_one(folder: str, tmp_path: Path) -> None:
    path = tmp_path / folder / "ledger.db"
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: Ledger.open(path), range(8)))
    runs.create(opened[0], name="speech", runs_folder=tmp_path, profile="", settings={})
    for ledger in opened:
        assert [run.name for run in runs.listed(ledger)] == ["speech"]
    for ledger in opened:
        ledger.close()


def second(path: Path, steps: int) -> None:
    """A ledger as schema 2 left it: a run with settings and `steps` rows of metrics, another without anything."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    for statement in (*schema.FIRST, *schema.QUEUE):
        connection.execute(statement)
    connection.execute("BEGIN")
    for number, name in ((1, "speech"), (2, "bare")):
        connection.execute(
            "INSERT INTO run (id, uid, name, created, folder, state) VALUES (?, ?, ?, 1, '/', 'finished')",
            (number, f"uid-{number}", name),
        )
        connection.execute("INSERT INTO run_document (run, profile) VALUES (?, '')", (number,))
    connection.executemany(
        "INSERT INTO setting (run, key, value) VALUES (1, ?, ?)",
        [(key, json.dumps(value)) for key, value in SETTINGS.items()],
    )
    connection.execute("INSERT INTO key (id, name) VALUES (1, 'train/loss')")
    connection.execute("INSERT INTO keyset (id, keys) VALUES (1, '1')")
    connection.executemany(
        "INSERT INTO tail (run, keyset, step, time, vals) VALUES (1, 1, ?, ?, ?)",
        [(step, 1e9 + step, struct.pack("<d", step / 7)) for step in range(steps)],
    )
    connection.execute(
        "INSERT INTO series VALUES (1, 1, ?, 0, ?, ?, 0, 0, ?, ?)",
        (steps, (steps - 1) / 7, steps - 1, (steps - 1) / 7, steps - 1),
    )
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 2")
    connection.execute("COMMIT")
    connection.close()


SETTINGS = {
    "method.name": "lora",
    "method.rank": 16,
    "method.dora": False,
    "split.test": None,
    "hardware.gpus": ["a", "b"],
}


def test_settings_and_metrics_of_schema_2_are_all_there_and_a_run_goes_on(home: Path) -> None:
    second(home / "ledger.db", 5000)
    with Ledger.open(home / "ledger.db") as ledger:
        run, bare = runs.by_id(ledger, 1), runs.by_id(ledger, 2)
        assert dict(runs.settings(ledger, run)) == SETTINGS
        assert dict(runs.settings(ledger, bare)) == {}
        assert metrics.curve(ledger, 1, "train/loss").values.tolist() == [step / 7 for step in range(5000)]
        assert sorted(ledger.rows("SELECT id, changed FROM run")) == [(1, 1), (2, 2)]
        with Writer(ledger, 1) as log:
            for step in range(5000, 5010):
                log.log(step, {"train/loss": step / 7})
        assert metrics.curve(ledger, 1, "train/loss").values.tolist() == [step / 7 for step in range(5010)]
        assert ledger.value("SELECT count(*) FROM tail") == 0
        smoothed = summaries.of_all(ledger)[1]["train/loss"].smoothed
        assert smoothed == pytest.approx(5009 / 7 - 9 / 7), (
            "nine steps behind, as an average of weight 0.9 on a line is"
        )
        assert ledger.rows("PRAGMA foreign_key_check") == []
    assert version(home / f"ledger.db.before-{schema.VERSION}") == 2


def test_a_disk_too_full_to_copy_leaves_the_older_ledger_as_it_is(disk: Callable[..., str]) -> None:
    said = disk("""
from engine.errors import Problem
from engine.ledger import Ledger, runs, schema
from tests.engine.ledger.test_migrate import second, version
second(disk / "ledger.db", 20_000)
before = (disk / "ledger.db").read_bytes()
(disk / "fill").write_bytes(bytes(max(0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 50_000)))
try:
    Ledger.open(disk / "ledger.db")
except Problem as problem:
    print(problem.code)
print((disk / "ledger.db").read_bytes() == before, version(disk / "ledger.db"))
print(list(disk.glob("*.part")))
(disk / "fill").unlink()
with Ledger.open(disk / "ledger.db") as ledger:
    print([run.name for run in runs.listed(ledger)], version(disk / f"ledger.db.before-{schema.VERSION}"))
print(sorted(file.name for file in disk.iterdir()))
""")
    code, kept, parts, opened, files = said.splitlines()
    assert code == "disk"
    assert kept == "True 2"
    assert parts == "[]", "no half copy takes the space that is short"
    assert opened == "['bare', 'speech'] 2"
    assert files == f"['ledger.db', 'ledger.db.before-{schema.VERSION}', 'ledger.db.lock']"
