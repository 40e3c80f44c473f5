"""The table of runs: all of them with the figures that a table shows, quickly enough to be looked through by the ten thousand.

It is read whole once; whoever looks again reads only what has changed (`run.changed`). Rows are plain tuples: ten thousand dataclasses
would cost more than reading them. Settings are one text a run; many runs share most of them, so equal ones are kept once.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Final, NamedTuple

import orjson

from engine.collecting import without_collecting
from engine.errors import Problem
from engine.ledger import jobs
from engine.ledger.best import higher_is_better
from engine.ledger.states import LIVE, State
from engine.ledger.store import Ledger, Value

Settings = Mapping[str, object]


class Figures(NamedTuple):
    """What a table shows of a metric: last, best and smoothed value as in `Summary`, and how many values are NaN or infinite."""

    last: float | None
    best: float | None
    smoothed: float | None
    gaps: int


class Row(NamedTuple):
    """A run as the table has it: fields of `Run`, then what belongs to the table. What is wanted of one run at a time, such as its folder,
    is asked for by its id (`runs.by_id`): each column of 10,000 rows costs a millisecond.

    `metrics` has the keys that were asked for and that the run has measured.
    """

    state: State  # these two first: they are made of what SQLite gives, the others are taken as they come
    baseline: bool
    id: int
    uid: str
    name: str
    created: float
    cause: str
    step: int
    steps: int | None
    ends: float | None
    note: str
    source: str
    sweep: str
    gpu: str
    comparable: str
    archived: float | None
    changed: int
    tags: tuple[str, ...]
    metrics: Mapping[str, Figures]


@dataclass(frozen=True, eq=False)
class Table:
    """Rows, newest first: all, or those that may have changed since.

    `changed` is where an increment goes on, `count` how many runs the whole table has, `gone` are the ids of runs that have left it since
    (into the bin or the archive). Rows that were removed for good are not among them: `count` tells.
    """

    keys: tuple[str, ...]
    archived: bool
    rows: tuple[Row, ...]
    gone: frozenset[int]
    changed: int
    count: int


MOST: Final = 50  # metrics of a table: each is joined to it, and SQLite joins 64 tables
NO_TAGS: Final[tuple[str, ...]] = ()
NO_METRICS: Final[Mapping[str, Figures]] = {}
_STATES: Final = {state.value: state for state in State}
_ID: Final = Row._fields.index("id")
_NAMES: Final = Row._fields[: Row._fields.index("changed")]
_RUN: Final = ", ".join(f"r.{name}" for name in _NAMES)


def read(ledger: Ledger, keys: Sequence[str] = (), *, after: int = 0, archived: bool = False) -> Table:
    """All runs with the summaries of the metrics `keys`, or with `after` (a table's `changed`) those that may have changed since.

    Live runs are always among them, because a process may die without a word: they are seen as `lost` then. Runs in the bin are left
    out, archived ones too unless asked for.

    Raises:
        Problem: there are more than `MOST` keys.
    """
    if len(keys) > MOST:
        raise Problem(f"{len(keys)} metrics are more than a table can have", do=f"Take {MOST} at most.", code="columns")
    there = _there(archived)
    lost, live = _live(ledger)
    with without_collecting(), ledger.reading() as connection:
        changed, count = connection.execute(
            f"SELECT (SELECT coalesce(max(changed), 0) FROM run), (SELECT count(*) FROM run r WHERE {there})"
        ).fetchone()
        where, gone = there, frozenset[int]()
        if after:
            marks = ", ".join(map(str, live))
            where = f"{there} AND (r.changed > {int(after)} OR r.id IN ({marks}))"
            left = f"SELECT r.id FROM run r WHERE r.changed > ? AND NOT ({there})"
            gone = frozenset(row[0] for row in connection.execute(left, (after,)))
        known = _keys(connection, keys)
        sql, values = _query(known, f"WHERE {where}")
        rows = _rows(
            connection.execute(sql, values).fetchall(), list(known), _tags(connection, where if after else ""), lost
        )
    return Table(tuple(keys), archived, _newest_first(rows), gone, changed, count)


def refreshed(ledger: Ledger, before: Table) -> Table:
    """The whole table as it is now; `before` itself where nothing has changed, and its own rows where they have not."""
    news = read(ledger, before.keys, after=before.changed, archived=before.archived)
    old = {row.id: row for row in before.rows}
    different = {row.id: row for row in news.rows if old.get(row.id) != row}
    count = len(old.keys() | different.keys()) - len(old.keys() & news.gone)
    if news.changed < before.changed or count != news.count:  # runs were removed for good
        return read(ledger, before.keys, archived=before.archived)
    if not different and not old.keys() & news.gone:
        return before if news.changed == before.changed else replace(before, changed=news.changed)
    merged = {**old, **different}
    return replace(
        news, rows=_newest_first(row for row in merged.values() if row.id not in news.gone), gone=frozenset()
    )


def settings(ledger: Ledger, runs: Collection[int] | None = None) -> dict[int, Settings]:
    """The settings of runs by row id, of all without `runs`: dotted key to value. Equal texts are one object."""
    if runs is None:
        found = ledger.rows("SELECT run, settings FROM run_document")
    else:
        chosen = ", ".join(str(int(run)) for run in runs)
        found = ledger.rows(f"SELECT run, settings FROM run_document WHERE run IN ({chosen})")
    parsed: dict[str, Settings] = {}
    texts: dict[str, str] = {}
    known: dict[int, Settings] = {}
    for run, text in found:
        if text not in parsed:
            values = _loaded(text).items()
            parsed[text] = {
                key: texts.setdefault(value, value) if type(value) is str else value for key, value in values
            }
        known[run] = parsed[text]
    return known


def _loaded(text: str) -> Settings:
    """JSON as Python writes it: with NaN, infinity and halves of surrogate pairs, which the quick reader refuses."""
    try:
        found: Settings = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = json.loads(text)
    return found


TELLING: Final = (
    "training.learning_rate",
    "method.name",
    "method.rank",
    "method.",
    "training.",
    "model.",
    "data.",
    "template.",
    "split.",
    "evaluation.",
    "hardware.",
)
"""What was done comes before what it was done to."""
SILENT: Final = ("title", "training.mirror")
"""Says nothing of what was done."""


def differing(shown: Collection[Settings]) -> list[str]:
    """The settings in which runs differ, those that tell most first; one that some runs do not have differs as well."""
    distinct = list({id(each): each for each in shown}.values())
    if not distinct:
        return []
    first = distinct[0]
    differ: dict[str, None] = {}
    same = dict(first)
    for each in distinct[1:]:
        for key in each.keys() - first.keys():
            differ[key] = None
        for key in [key for key, value in same.items() if key not in each or each[key] != value]:
            differ[key] = None
            del same[key]
    return sorted((key for key in differ if key not in SILENT), key=_telling)


def _telling(key: str) -> tuple[bool, int, str]:
    place = next((place for place, start in enumerate(TELLING) if key.startswith(start)), len(TELLING))
    return key.endswith("seed"), place, key


def _live(ledger: Ledger) -> tuple[frozenset[int], frozenset[int]]:
    """The ids of runs that are seen as lost, and of all whose newest training job says that it is alive."""
    newest = {job.run: job for job in jobs.live(ledger) if job.kind == "train" and job.run is not None}
    lost = {run for run, job in newest.items() if jobs.seen_state(job) is State.LOST}
    return frozenset(lost), frozenset(newest)


def _there(archived: bool) -> str:
    return "r.deleted IS NULL" if archived else "r.deleted IS NULL AND r.archived IS NULL"


def _keys(connection: sqlite3.Connection, names: Sequence[str]) -> dict[str, int]:
    """The ids of those metrics that the ledger knows, in the order of their names."""
    marks = ", ".join("?" * len(names))
    ids = dict(connection.execute(f"SELECT name, id FROM key WHERE name IN ({marks})", tuple(names)))
    return {name: ids[name] for name in names if name in ids}


def _query(known: Mapping[str, int], rest: str) -> tuple[str, tuple[Value, ...]]:
    """Runs with their summaries beside them, four columns a metric."""
    figures, joins, values = [], [], []
    for place, (name, key) in enumerate(known.items()):
        best = "max" if higher_is_better(name) else "min"
        figures += [f"s{place}.{column}" for column in ("last", best, "smoothed", "gaps")]
        joins.append(f"LEFT JOIN series s{place} ON s{place}.run = r.id AND s{place}.key = ?")
        values.append(key)
    columns = ", ".join((_RUN, "r.changed", *figures))
    return f"SELECT {columns} FROM run r {' '.join(joins)} {rest}", tuple(values)


def _tags(connection: sqlite3.Connection, where: str) -> dict[int, tuple[str, ...]]:
    """By run; with `where` only those of some runs, else all, which is quicker than asking for as many."""
    some = f"WHERE run IN (SELECT r.id FROM run r WHERE {where})" if where else ""
    tags: dict[int, tuple[str, ...]] = {}
    for run, name in connection.execute(f"SELECT run, name FROM tag {some} ORDER BY run, name"):
        tags[run] = (*tags.get(run, NO_TAGS), name)
    return tags


def _rows(
    found: Iterable[tuple[Any, ...]], keys: Sequence[str], tags: Mapping[int, tuple[str, ...]], lost: frozenset[int]
) -> list[Row]:
    """Rows from what the query gives."""
    width = len(_NAMES) + 1
    places = [(key, width + 4 * place, width + 4 * place + 4) for place, key in enumerate(keys)]
    new = tuple.__new__  # what `_make` comes down to, in half the time
    rows = []
    for each in found:
        state = _STATES[each[0]]
        if lost and each[_ID] in lost and state in LIVE:
            state = State.LOST
        metrics: dict[str, Figures] = {}
        for key, start, end in places:
            if each[end - 1] is not None:  # none are gaps only where nothing was measured
                metrics[key] = new(Figures, each[start:end])
        tagged = tags.get(each[_ID], NO_TAGS)
        rows.append(new(Row, (state, each[1] == 1, *each[2:width], tagged, metrics or NO_METRICS)))
    return rows


def _newest_first(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Quicker than SQLite, which would have to carry all columns through its sorter."""
    return tuple(sorted(rows, key=attrgetter("created", "id"), reverse=True))
