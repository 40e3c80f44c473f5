"""The table of runs: all of them with the figures that a table shows, quickly enough to be looked through by the ten thousand.

It is read whole once; whoever looks again reads only what has changed (`run.changed`). Rows are plain tuples: ten thousand dataclasses
would cost more than reading them. Settings are one text a run; many runs share most of their values, so equal ones are kept once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import orjson

from engine.ledger import jobs
from engine.ledger.runs import HIGHER_IS_BETTER, NAMES, NEWEST_FIRST, Run, Summary
from engine.ledger.states import LIVE, State
from engine.ledger.store import Ledger, Value

Settings = Mapping[str, object]
By = Literal["best", "last", "smoothed"]


class Row(NamedTuple):
    """A run as the table has it: the fields of `Run` in their order (`folder` as text), then what belongs to the table.

    `metrics` has the keys that were asked for and that the run has measured.
    """

    id: int
    uid: str
    name: str
    created: float
    folder: str
    parent: str | None
    state: State
    cause: str
    step: int
    steps: int | None
    ends: float | None
    result_kind: str | None
    result_path: str | None
    predicted_mib: float | None
    measured_mib: float | None
    note: str
    source: str
    sweep: str
    gpu: str
    comparable: str
    baseline: bool
    archived: float | None
    deleted: float | None
    changed: int
    tags: tuple[str, ...]
    metrics: Mapping[str, Summary]

    @property
    def run(self) -> Run:
        """The run as the rest of the engine knows it."""
        return Run(**{**dict(zip(NAMES, self, strict=False)), "folder": Path(self.folder)})  # type: ignore[arg-type]


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


NO_TAGS: Final[tuple[str, ...]] = ()
NO_METRICS: Final[Mapping[str, Summary]] = {}
_STATES: Final = {state.value: state for state in State}
_STATE: Final = NAMES.index("state")
_BASELINE: Final = NAMES.index("baseline")
_RUN: Final = ", ".join(f"r.{name}" for name in NAMES)


def read(ledger: Ledger, keys: Sequence[str] = (), *, after: int = 0, archived: bool = False) -> Table:
    """All runs with the summaries of the metrics `keys`, or with `after` (a table's `changed`) those that may have changed since.

    Live runs are always among them, because a process may die without a word: they are seen as `lost` then. Runs in the bin are left
    out, archived ones too unless asked for.
    """
    there = "r.deleted IS NULL" if archived else "r.deleted IS NULL AND r.archived IS NULL"
    lost, live = _live(ledger)
    with ledger.reading() as connection:
        changed, count = connection.execute(
            f"SELECT (SELECT coalesce(max(changed), 0) FROM run), (SELECT count(*) FROM run r WHERE {there})"
        ).fetchone()
        where, gone = there, frozenset[int]()
        if after:
            marks = ", ".join(map(str, live))
            where = f"{there} AND (r.changed > {int(after)} OR r.id IN ({marks}))"
            left = f"SELECT r.id FROM run r WHERE r.changed > ? AND NOT ({there})"
            gone = frozenset(row[0] for row in connection.execute(left, (after,)))
        ids = dict(connection.execute(f"SELECT name, id FROM key WHERE name IN ({_marks(keys)})", tuple(keys)))
        known = [(key, ids[key]) for key in keys if key in ids]
        sql, values = _query(known, f"WHERE {where} {NEWEST_FIRST}")
        found = connection.execute(sql, values).fetchall()
        tags = _tags(connection.execute("SELECT run, name FROM tag ORDER BY run, name"))
    rows = tuple(_rows(found, [key for key, _ in known], tags, lost))
    return Table(tuple(keys), archived, rows, gone, changed, count)


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
    rows = sorted(
        (row for row in merged.values() if row.id not in news.gone), key=lambda row: (row.created, row.id), reverse=True
    )
    return replace(news, rows=tuple(rows), gone=frozenset())


def sorted_by(
    ledger: Ledger,
    metric: str,
    by: By = "best",
    *,
    keys: Sequence[str] = (),
    worst_first: bool = False,
    limit: int | None = None,
    archived: bool = False,
) -> tuple[Row, ...]:
    """The runs that have measured a metric, sorted by its best, last or smoothed value: the best first. `keys` are metrics beside it."""
    lost, _ = _live(ledger)
    higher = metric in HIGHER_IS_BETTER
    column = ("max" if higher else "min") if by == "best" else by
    there = "r.deleted IS NULL" if archived else "r.deleted IS NULL AND r.archived IS NULL"
    wanted = list(dict.fromkeys((metric, *keys)))
    with ledger.reading() as connection:
        ids = dict(connection.execute(f"SELECT name, id FROM key WHERE name IN ({_marks(wanted)})", wanted))
        if metric not in ids:
            return ()
        known = [(key, ids[key]) for key in wanted if key in ids]
        order = "DESC" if higher is not worst_first else "ASC"
        end = f"WHERE {there} AND s0.{column} IS NOT NULL ORDER BY s0.{column} {order}, r.id LIMIT {-1 if limit is None else int(limit)}"
        sql, values = _query(known, end, first=True)
        found = connection.execute(sql, values).fetchall()
        tags = _tags(connection.execute("SELECT run, name FROM tag ORDER BY run, name"))
    return tuple(_rows(found, [key for key, _ in known], tags, lost))


def settings(ledger: Ledger, runs: Collection[int] | None = None) -> dict[int, Settings]:
    """The settings of runs by row id, of all without `runs`: dotted key to value. Equal texts and equal values are one object."""
    if runs is None:
        found = ledger.rows("SELECT run, settings FROM run_document")
    else:
        chosen = ", ".join(str(int(run)) for run in runs)
        found = ledger.rows(f"SELECT run, settings FROM run_document WHERE run IN ({chosen})")
    parsed: dict[str, Settings] = {}
    values: dict[object, object] = {}
    known: dict[int, Settings] = {}
    for run, text in found:
        if text not in parsed:
            parsed[text] = {key: _interned(value, values) for key, value in orjson.loads(text).items()}
        known[run] = parsed[text]
    return known


def _interned(value: object, values: dict[object, object]) -> object:
    """The value itself, or one like it that is there already; 1, 1.0 and true are not alike."""
    return values.setdefault((type(value), value), value) if not isinstance(value, list | dict) else value


TELLING: Final = (
    "training.learning_rate",
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


def _marks(values: Collection[object]) -> str:
    return ", ".join("?" * len(values))


def _query(known: Sequence[tuple[str, int]], rest: str, *, first: bool = False) -> tuple[str, tuple[Value, ...]]:
    """Runs with their summaries beside them, five columns a metric; with `first` only runs that have the first metric."""
    figures, joins, values = [], [], []
    for place, (name, key) in enumerate(known):
        best = "max" if name in HIGHER_IS_BETTER else "min"
        figures += [f"s{place}.{column}" for column in ("last", "last_step", best, f"{best}_step", "smoothed")]
        kind = "JOIN" if first and not place else "LEFT JOIN"
        joins.append(f"{kind} series s{place} ON s{place}.run = r.id AND s{place}.key = ?")
        values.append(key)
    columns = ", ".join((_RUN, "r.changed", *figures))
    return f"SELECT {columns} FROM run r {' '.join(joins)} {rest}", tuple(values)


def _tags(found: Iterator[tuple[int, str]]) -> dict[int, tuple[str, ...]]:
    tags: dict[int, tuple[str, ...]] = {}
    for run, name in found:
        tags[run] = (*tags.get(run, NO_TAGS), name)
    return tags


def _rows(
    found: list[tuple[Any, ...]], keys: Sequence[str], tags: Mapping[int, tuple[str, ...]], lost: frozenset[int]
) -> Iterator[Row]:
    width = len(NAMES) + 1
    places = [(key, width + 5 * place) for place, key in enumerate(keys)]
    for each in found:
        # A step without which there is no summary stands where the last value may be missing.
        metrics = {key: Summary(*each[place : place + 5]) for key, place in places if each[place + 1] is not None}
        state = _STATES[each[_STATE]]
        yield Row._make(
            (
                *each[:_STATE],
                State.LOST if each[0] in lost and state in LIVE else state,
                *each[_STATE + 1 : _BASELINE],
                each[_BASELINE] == 1,
                *each[_BASELINE + 1 : width],
                tags.get(each[0], NO_TAGS),
                metrics or NO_METRICS,
            )
        )
