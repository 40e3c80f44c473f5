"""Put the runs of a JSON document (`documents`) into an empty ledger, row by row, from where they are merged.

The document is somebody's file: what does not fit its tables is told with its place, and nothing of it is used.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from engine.errors import Problem
from engine.ledger import sealing
from engine.ledger.exchange import adding, foreign
from engine.ledger.exchange.imported import Points
from engine.ledger.packing import Packer
from engine.ledger.runs import UID
from engine.ledger.store import Ledger

ROWS: Final = {
    "jobs": "job",
    "events": "event",
    "orders": "orders",
    "checkpoints": "checkpoint",
    "artifacts": "artifact",
}
TEXTS_OF_JSON: Final = frozenset({"settings", "environment", "fingerprints", "argument", "places", "detail", "scores"})
TIMES: Final = frozenset(
    {
        *("created", "started", "ended", "heartbeat", "ends", "time", "answered", "finished"),
        *("archived", "deleted"),
    }
)
Told = Mapping[str, object]


def insert(ledger: Ledger, told: Told, path: Path) -> None:
    """Everything of a run; `path` is the document's, for what is said of it.

    Raises:
        Problem: something in it is not what it should be; nothing of the run was written.
    """
    name = part(told, "run", path).get("name")
    try:
        with ledger.transaction() as connection:
            _insert_all(connection, told, path)
    except (sqlite3.Error, TypeError, ValueError, OverflowError) as error:
        raise _unfit(path, f"the run {name}", str(error)) from error


def part(told: Told, name: str, path: Path) -> Told:
    """An object within the document.

    Raises:
        Problem: there is none of this name.
    """
    found = told.get(name)
    if not isinstance(found, dict):
        raise _unfit(path, "a run", f"it has no {name}")
    return found


def _parts(told: Told, name: str, path: Path) -> list[Told]:
    found = told.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise _unfit(path, "a run", f"{name} is not a list of objects")
    return found


def _unfit(path: Path, where: str, why: str) -> Problem:
    return Problem(f"{path} is not as it was exported", f"In {where}: {why}.", "Export the runs again.", code="import")


def _insert_all(connection: sqlite3.Connection, told: Told, path: Path) -> None:
    own = part(told, "run", path)
    if not UID.fullmatch(uid := str(own.get("uid"))) or Path(str(own.get("folder"))).name != uid:
        raise ValueError("its uid is none, or its folder is not named by it")
    run = _insert(connection, "run", own)
    _insert(connection, "run_document", {**part(told, "document", path), "run": run})
    tags = told.get("tags", [])
    for tag in tags if isinstance(tags, list) else []:
        _insert(connection, "tag", {"run": run, "name": tag})
    for word in _parts(told, "said", path):
        _insert(connection, "said", {**word, "run": run})
    jobs: dict[object, int] = {}
    for name, table in ROWS.items():
        for row in _parts(told, name, path):
            more: dict[str, object] = {"job": jobs.get(row.get("job"))} if table == "event" else {}
            number = _insert(connection, table, {**row, "run": run, **more})
            if table == "job":
                jobs[row.get("uid")] = number
    for evaluation in _parts(told, "evaluations", path):
        own = {key: value for key, value in evaluation.items() if key != "items"}
        number = _insert(connection, "evaluation", {**own, "run": run})
        for item in _parts(evaluation, "items", path):
            _insert(connection, "item", {**item, "evaluation": number})
    points = {key: _points(curve) for key, curve in part(told, "metrics", path).items()}
    Packer(run).write(connection, list(adding.rows(points.items())))
    sealing.seal(connection, run)


def _insert(connection: sqlite3.Connection, table: str, row: Told) -> int:
    """One row, by column; its id.

    Raises:
        ValueError: the table has no such column.
        sqlite3.Error: it does not take such a value.
    """
    kinds = {str(column[1]): str(column[2]) for column in connection.execute(f"PRAGMA table_info({table})")}
    if unknown := sorted(row.keys() - kinds.keys()):
        raise ValueError(f"{table} has no {', '.join(unknown)}")
    cells = [_cell(name, kinds[name], value) for name, value in row.items()]
    marks = ", ".join("?" * len(row))
    number = connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", cells).lastrowid
    return number or 0


def _cell(name: str, kind: str, value: object) -> str | int | float | None:
    """A value as the column keeps it.

    Raises:
        ValueError: it is none.
    """
    if name in TEXTS_OF_JSON:
        return value if isinstance(value, str) else json.dumps(value)
    if kind == "REAL" and isinstance(value, str):
        value = foreign.number(value)
    if name in TIMES and isinstance(value, int | float) and not abs(value) < adding.LATEST:  # NaN too
        raise ValueError(f"{name} is no time")
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"{name} is neither text nor number")


def _points(curve: object) -> Points:
    """A metric from its three lists.

    Raises:
        ValueError: they are not such lists.
    """
    told = curve if isinstance(curve, dict) else {}
    steps, times, values = (told.get(name) for name in ("steps", "times", "values"))
    if not (isinstance(steps, list) and isinstance(times, list) and isinstance(values, list)):
        raise ValueError("a metric has no steps, times and values")
    if not len(steps) == len(times) == len(values) or any(type(step) is not int for step in steps):
        raise ValueError("a metric's steps, times and values do not belong together")
    numbers = [foreign.number(value) for value in values]
    if None in numbers or not all(isinstance(when, int | float) and abs(when) < adding.LATEST for when in times):
        raise ValueError("a metric has a value or a time that is no number")
    return Points(np.array(steps, np.int64), np.array(times, np.float64), np.array(numbers, np.float64))
