"""What two ledgers gathered of runs beside their training: evaluations, and the jobs and exports that anybody who has the result can make.

Each is decided for itself. Of a model on a suite under the same conditions, for one run, there is one evaluation: a finished one stands
before one that is not, the newer before the older; of two unfinished ones that with more answers. Of a job, the copy that is further stands.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from engine.ledger.standing import Where, columns
from engine.ledger.taking import JOB, take

_Identity = tuple[str | None, str, str, str]  # uid of the run, model, suite, conditions

RUN: Final = "(SELECT id FROM main.run WHERE uid = (SELECT uid FROM other.run WHERE id = x.run))"
_UIDS: Final = "SELECT value FROM json_each(?)"
_HERE: Final = "e.run IS NULL OR r.uid IN (SELECT uid FROM main.run)"
# A base model's evaluation belongs to no run: it comes along where it is what a chosen run's is held against.
_CHOSEN: Final = """
    r.uid IN (SELECT value FROM json_each(:only)) OR e.run IS NULL AND EXISTS (
        SELECT 1 FROM other.evaluation o JOIN other.run c ON c.id = o.run
        WHERE c.uid IN (SELECT value FROM json_each(:only))
            AND o.suite_fingerprint = e.suite_fingerprint AND o.conditions = e.conditions
    )
"""


class _Evaluation(NamedTuple):
    id: int
    finished: float
    n: int
    scores: str
    uid: str


def gather(connection: sqlite3.Connection, only: Collection[str] | None, *, asking: bool) -> int:
    """Take over the other ledger's evaluations that are new or further; with `only`, those that these runs are compared by.

    Where a job is `asking` a model here, unfinished evaluations stay its own. Returns how many were taken.
    """
    ours = _evaluations(connection, "main", "1", None)
    theirs = _evaluations(connection, "other", f"({_HERE}) AND (:everything OR {_CHOSEN})", only)
    further = []
    for identity, there in theirs.items():
        here = ours.get(identity)
        if here and asking and not here.finished:
            continue
        if here is None or _rank(connection, "other", there, here) > _rank(connection, "main", here, there):
            further.append(there.id)
            if here:
                connection.execute("DELETE FROM main.evaluation WHERE id = ?", (here.id,))
    evaluation = (
        "(SELECT id FROM main.evaluation WHERE uid = (SELECT uid FROM other.evaluation WHERE id = x.evaluation))"
    )
    _take(connection, "evaluation", {"id": "", "run": RUN}, "id", further)
    _take(connection, "item", {"evaluation": evaluation}, "evaluation", further)
    return len(further)


def beside_training(connection: sqlite3.Connection, uids: Collection[str]) -> set[str]:
    """Take over what evaluations and exports left of these runs, which are here: their jobs, with events, and the exports' artifacts.

    Returns the uids of the runs that something was taken of.
    """
    jobs = _further(_jobs(connection, "main", uids), _jobs(connection, "other", uids), _forget(connection, "job"))
    exports = _further(
        _exports(connection, "main", uids), _exports(connection, "other", uids), _forget(connection, "artifact")
    )
    _take(connection, "job", {"id": "", "run": RUN}, "id", jobs)
    _take(connection, "event", {"id": "", "run": RUN, "job": JOB}, "job", jobs)
    _take(connection, "artifact", {"id": "", "run": RUN}, "id", exports)
    return {*jobs.values(), *exports.values()}


class _Made(NamedTuple):
    """A row that was made beside training: its id, its run's uid, and what decides between two copies, the higher."""

    id: int
    run: str
    rank: tuple[float, float, int, str]


def _further(ours: dict[str, _Made], theirs: dict[str, _Made], forget: Callable[[int], object]) -> dict[int, str]:
    """Of theirs those that are new or further, with their runs; ours in their place are forgotten."""
    further = {}
    for name, there in theirs.items():
        here = ours.get(name)
        if here is None or there.rank > here.rank:
            further[there.id] = there.run
            if here:
                forget(here.id)
    return further


def _forget(connection: sqlite3.Connection, table: str) -> Callable[[int], object]:
    return lambda row: connection.execute(f"DELETE FROM main.{table} WHERE id = ?", (row,))


def _jobs(connection: sqlite3.Connection, where: Where, uids: Collection[str]) -> dict[str, _Made]:
    events: dict[int, list[object]] = {}
    told = [name for name in columns(connection, "event") if name not in ("id", "run", "job")]
    for row in connection.execute(
        f"SELECT job, {', '.join(told)} FROM {where}.event WHERE job IN"
        f" (SELECT j.id FROM {where}.job j JOIN {where}.run r ON r.id = j.run WHERE j.kind <> 'train' AND r.uid IN ({_UIDS}))"
        " ORDER BY id",
        (json.dumps(list(uids)),),
    ):
        events.setdefault(row[0], []).append(row[1:])
    shown = ", ".join(f"j.{name}" for name in columns(connection, "job") if name not in ("id", "run"))
    rows = connection.execute(
        f"SELECT j.uid, j.id, r.uid, coalesce(j.ended, 0), coalesce(j.heartbeat, 0), {shown}"
        f" FROM {where}.job j JOIN {where}.run r ON r.id = j.run WHERE j.kind <> 'train' AND r.uid IN ({_UIDS})",
        (json.dumps(list(uids)),),
    )
    found = {}
    for name, job, run, ended, beat, *content in rows:
        happened = events.get(job, [])
        found[str(name)] = _Made(job, run, (ended, beat, len(happened), repr((content, happened))))
    return found


def _exports(connection: sqlite3.Connection, where: Where, uids: Collection[str]) -> dict[str, _Made]:
    rows = connection.execute(
        f"SELECT r.uid || '/' || a.path, a.id, r.uid, a.created, a.bytes, a.fingerprint"
        f" FROM {where}.artifact a JOIN {where}.run r ON r.id = a.run WHERE a.kind = 'export' AND r.uid IN ({_UIDS})",
        (json.dumps(list(uids)),),
    )
    return {str(name): _Made(row, run, (made, size, 0, known)) for name, row, run, made, size, known in rows}


def _evaluations(
    connection: sqlite3.Connection, where: Where, which: str, only: Collection[str] | None
) -> dict[_Identity, _Evaluation]:
    rows = connection.execute(
        "SELECT r.uid, e.model, e.suite_fingerprint, e.conditions, e.id, coalesce(e.finished, 0), e.n, e.scores, e.uid"
        f" FROM {where}.evaluation e LEFT JOIN {where}.run r ON r.id = e.run WHERE {which}",
        {"everything": only is None, "only": json.dumps(list(only or ()))},
    )
    return {(run, model, suite, conditions): _Evaluation(*rest) for run, model, suite, conditions, *rest in rows}


def _rank(
    connection: sqlite3.Connection, where: Where, one: _Evaluation, against: _Evaluation
) -> tuple[float, int, bytes, int, str, str]:
    """What decides, the higher; answers are looked at only where both are still being asked."""
    answers, content = 0, hashlib.sha256()
    if not one.finished and not against.finished:
        query = f"SELECT * FROM {where}.item WHERE evaluation = ? ORDER BY item, variant"
        for row in connection.execute(query, (one.id,)):
            answers += 1
            content.update(repr(row[1:]).encode())
    return one.finished, answers, content.digest(), one.n, one.scores, one.uid


def _take(
    connection: sqlite3.Connection, table: str, changed: Mapping[str, str], which: str, ids: Collection[int]
) -> None:
    """The rows whose column `which` is one of `ids`, oldest first where they are numbered."""
    order = "x.id" if changed.get("id") == "" else "1, 2"
    rest = f"WHERE x.{which} IN (SELECT value FROM json_each(?)) ORDER BY {order}"
    take(connection, table, changed, rest, (json.dumps(list(ids)),))
