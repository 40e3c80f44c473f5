"""Evaluations of two ledgers gathered in one: of a model on a suite under the same conditions, for one run, there is one.

A finished one stands before one that is not, the newer before the older; of two unfinished ones that with more answers.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Collection
from typing import Final, NamedTuple

from engine.ledger.standing import Where, columns

_Identity = tuple[str | None, str, str, str]  # uid of the run, model, suite, conditions

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
    run = "(SELECT id FROM main.run WHERE uid = (SELECT uid FROM other.run WHERE id = x.run))"
    evaluation = (
        "(SELECT id FROM main.evaluation WHERE uid = (SELECT uid FROM other.evaluation WHERE id = x.evaluation))"
    )
    _take(connection, "evaluation", {"id": None, "run": run}, "id", further)
    _take(connection, "item", {"evaluation": evaluation}, "evaluation", further)
    return len(further)


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
    connection: sqlite3.Connection, table: str, changed: dict[str, str | None], which: str, ids: Collection[int]
) -> None:
    names = [name for name in columns(connection, table) if changed.get(name, "") is not None]
    values = ", ".join(changed.get(name) or f"x.{name}" for name in names)
    connection.execute(
        f"INSERT INTO main.{table} ({', '.join(names)}) SELECT {values} FROM other.{table} x"
        f" WHERE x.{which} IN (SELECT value FROM json_each(?)) ORDER BY 1, 2",
        (json.dumps(list(ids)),),
    )
