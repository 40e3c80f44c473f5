"""trackio: a SQLite file a project, a JSON text a log call. It is read while trackio writes to it, and never written to.

Its tables have changed over time: runs have an id of their own since 0.5, before that they had only a name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import Problem
from engine.ledger import opening
from engine.ledger.exchange import foreign
from engine.ledger.exchange.imported import Gathering, Imported, Kind, uid_of


def is_project(path: Path) -> bool:
    """Whether the SQLite file is one of trackio's."""
    with _reading(path) as connection:
        return {"run_name", "step", "metrics", "timestamp"} <= _columns(connection, "metrics")


def readers(path: Path) -> list[Project]:
    """A reader for each run of a project's file.

    Raises:
        Problem: it cannot be read.
    """
    with _reading(path) as connection:
        run = _identity(connection)
        found = connection.execute(
            f"SELECT {run}, max(run_name) FROM metrics GROUP BY {run} ORDER BY min(id)"
        ).fetchall()
    return [Project(path, str(each), str(name)) for each, name in found]


class Project:
    """A reader of one run of a project."""

    kind: Kind = "trackio"

    def __init__(self, path: Path, run: str, name: str) -> None:
        self.path = path
        self._run = run
        self._name = name
        self._row = 0
        self._names = foreign.Names()
        self._gathered = Gathering()
        self._created: float | None = None
        self._damaged = 0

    def read(self) -> Imported | None:
        """What is known of the run, with the points that came since; None while it has none.

        Raises:
            Problem: the file can no longer be read.
        """
        with _reading(self.path) as connection:
            run = _identity(connection)
            rows = connection.execute(
                f"SELECT id, timestamp, step, metrics FROM metrics WHERE {run} = ? AND id > ? ORDER BY id",
                (self._run, self._row),
            ).fetchall()
            config = self._config(connection)
        for row, when, step, text in rows:
            self._row = row
            try:
                self._take(_time(when), int(step), _object(text))
            except (ValueError, TypeError, OverflowError):  # a cell may hold anything, or nothing
                self._damaged += 1
        if self._created is None:
            return None
        broken = f"Rows of {self._name} that could not be understood: {self._damaged:,}." if self._damaged else ""
        return Imported(
            uid=uid_of(self.kind, self.path.stem, self._run, "" if self._run != self._name else repr(self._created)),
            kind=self.kind,
            path=self.path,
            name=self._name,
            created=self._created,
            points=self._gathered.take(),
            settings=foreign.settings({key: value for key, value in config.items() if not key.startswith("_")}),
            state=self._gathered.state,
            sweep=str(config.get("_Group") or ""),
            troubles=(broken,) if broken else (),
        )

    def _take(self, when: float, step: int, row: dict[str, object]) -> None:
        self._created = when if self._created is None else min(when, self._created)
        told = [foreign.whole(row.pop(key, None)) for key in foreign.STEP_KEYS]
        self._gathered.add_all(
            next((each for each in told if each is not None), step),
            when,
            ((self._names(key), value) for key, value in foreign.numbers(row).items()),
        )

    def _config(self, connection: sqlite3.Connection) -> dict[str, object]:
        columns = _columns(connection, "configs")
        if not columns:
            return {}
        run = "run_id" if "run_id" in columns else "run_name"
        row = connection.execute(f"SELECT config FROM configs WHERE {run} = ?", (self._run,)).fetchone()
        try:
            return _object(row[0]) if row else {}
        except ValueError:
            return {}


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection, _ = opening.reader(path.absolute())
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise Problem(f"{path} cannot be read", f"SQLite says: {error}.", code="import") from error


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")}


def _identity(connection: sqlite3.Connection) -> str:
    """The column that tells runs apart."""
    return "run_id" if "run_id" in _columns(connection, "metrics") else "run_name"


def _time(text: str) -> float:
    """An ISO time in seconds since the epoch; without a zone it is UTC."""
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _object(text: str | bytes) -> dict[str, object]:
    found = foreign.parsed(text)
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
