"""An older ledger is brought up to date, with a copy made first; what goes wrong leaves it as it was."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.ledger import Ledger, runs, schema

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
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        Ledger.open(older)
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
