"""From the ledger to what the Runs screen shows: one frozen snapshot a read.

A key waits for one read, so a read does what is quick: settings, which take longer for thousands of runs, come in portions (`Snapshot.more`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from engine.filtering import Field, Filter, Value, parse
from engine.ledger import Ledger, facts, queue, table
from engine.ledger.facts import LOSS
from engine.ledger.states import State
from engine.ledger.table import Row
from screens.runs import columns, grouping
from screens.runs.columns import Shown
from screens.runs.following import Following
from screens.runs.grouping import Group, Item
from screens.runs.looking import Detail, Looking, Together
from screens.runs.scene import Scene
from screens.session import View

TIMED: Final = frozenset(("age", "ends"))  # what changes by itself


@dataclass(frozen=True)
class Wanted:
    """What is to be seen: `only` is a filter's text, `unfolded` are the keys of open groups, `selected` is the key of the line under the
    cursor, `room` the table's width in columns.
    """

    only: str = ""
    view: View = field(default_factory=View)
    unfolded: frozenset[str] = frozenset()
    selected: str | None = None
    room: int = 80


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The lines of the table; the runs that pass the filter, those in folded groups too; all `runs` and their states, without the
    `archived` ones unless they are asked for; what can be asked of them; the selected run. `more`: another read will add something.
    """

    lines: Sequence[Item] = ()
    passing: Sequence[Row] = ()
    shown: tuple[Shown, ...] = ()
    scene: Scene = field(default_factory=Scene)
    runs: Sequence[Row] = ()
    archived: int = 0
    states: Mapping[State, int] = field(default_factory=dict)
    only: Filter = field(default_factory=Filter)
    wanted: Wanted = field(default_factory=Wanted)
    fields: Sequence[Field] = facts.FIELDS
    detail: Detail | Together | None = None
    more: bool = False


class Reading:
    """Reads snapshots; keeps what was found between them. For one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._runs = Following(ledger)
        self._looking = Looking(ledger)
        self._passed: dict[str, tuple[int, dict[int, tuple[Row, bool]]]] = {}
        self._differing: tuple[object, list[str]] = (None, [])
        self._shown: tuple[object, tuple[Shown, ...]] = (None, ())
        self._told_of: object = None
        self._tells: frozenset[str] = frozenset()
        self._seen: tuple[object, Sequence[Row]] = (None, ())
        self._alone: dict[int, Item] = {}
        self._grouped: tuple[object, Sequence[Row | Group]] = (None, ())
        self._states: Mapping[State, int] = {}
        self._order: tuple[object, Sequence[Row]] = (None, ())
        self._before: tuple[object, Snapshot] = (None, Snapshot())

    def read(self, now: float, wanted: Wanted) -> Snapshot:
        """All of it. Without a selected line, or when that is gone, the first one is told about."""
        followed, asked = self._runs, parse(wanted.only, self._runs.fields).fields
        followed.look(_metrics((*wanted.view.columns, wanted.view.sort, *asked)))
        scene = Scene(now, followed.settings, followed.baselines, followed.leaders, queue.places(self._ledger))
        arranged = self._arranged(wanted, scene)
        chosen = next((line for line in arranged.lines if line.key == wanted.selected), None)
        if chosen is None and arranged.lines:
            chosen = arranged.lines[0]
        return replace(
            arranged,
            wanted=wanted,
            scene=scene,
            shown=self._columns(arranged.passing, wanted, scene),
            fields=followed.fields,
            detail=self._told(chosen, scene) if chosen else None,
            more=not followed.complete,
        )

    def _told(self, chosen: Item, scene: Scene) -> Detail | Together | None:
        """About a run, or about a group of them."""
        if chosen.row is not None:
            return self._looking.at(chosen.row, self._runs.rows, scene)
        return self._looking.together(chosen.group, scene) if chosen.group else None

    def _arranged(self, wanted: Wanted, scene: Scene) -> Snapshot:
        """Filtered, sorted, put together; what was there before where nothing has changed."""
        followed = self._runs
        only = parse(wanted.only, followed.fields)
        timed = scene.now if only.fields & TIMED else 0.0
        at = followed.rows_at, "archived" in only.fields
        of = at, followed.settings_at, only, wanted.view, wanted.unfolded, timed
        if of != self._before[0]:
            visible = self._visible(at)
            passing = self._passing(self._sorted(visible, at, wanted.view, scene), only, scene)
            lines = self._lines(passing, wanted, scene)
            hidden = len(followed.rows) - len(visible)
            made = Snapshot(lines, passing, runs=visible, archived=hidden, states=self._states, only=only)
            self._before = of, made
        return self._before[1]

    def _visible(self, at: tuple[int, bool]) -> Sequence[Row]:
        """All runs, or without those that were put out of sight; `at` is when, and whether these are asked for."""
        if at != self._seen[0]:
            rows = [row for row in self._runs.rows if at[1] or row.archived is None]
            self._seen, self._states = (at, rows), grouping.counted(rows)
            self._alone = grouping.alone(rows, self._alone)
        return self._seen[1]

    def _sorted(self, rows: Sequence[Row], at: object, view: View, scene: Scene) -> Sequence[Row]:
        """In the order of the view; while a filter is typed that of before."""
        if view.sort == "age":  # as they come: the newest first
            return rows[::-1] if view.descending else rows
        of = at, self._runs.settings_at, view.sort, view.descending
        if of != self._order[0]:
            self._order = of, grouping.ordered(rows, scene.asker(view.sort), descending=view.descending)
        return self._order[1]

    def _passing(self, rows: Sequence[Row], only: Filter, scene: Scene) -> Sequence[Row]:
        """The runs that pass. Each part's answers are kept: of a filter that is typed only the last part changes, of a run that trains one row."""
        used: dict[str, tuple[int, dict[int, tuple[Row, bool]]]] = {}
        for part in only.parts:
            text, name = str(part), part.field
            at, known = self._passed.get(text, (-1, {}))
            if at != self._runs.settings_at or name in TIMED:
                known = {}
            rows = _kept(rows, parse(text, self._runs.fields), scene.asker(name), known)
            used[text] = self._runs.settings_at, known
        self._passed = used
        return rows

    def _lines(self, passing: Sequence[Row], wanted: Wanted, scene: Scene) -> Sequence[Item]:
        """Of runs one by one, or of groups; these stay where only some of them open or fold."""
        if not (by := wanted.view.group):
            return [self._alone[row.id] for row in passing]
        of = self._seen[0], self._runs.settings_at, wanted.view, passing
        if of != self._grouped[0]:
            self._grouped = of, grouping.grouped(passing, by, _groups(by, scene))
        return list(grouping.lines(self._grouped[1], wanted.unfolded))

    def _columns(self, passing: Sequence[Row], wanted: Wanted, scene: Scene) -> tuple[Shown, ...]:
        """The columns; found anew only where other runs are shown than before, or their settings have become known."""
        before = self._before[1]
        told_of = self._seen[0], self._runs.settings_at, str(before.only), before.only.fields & TIMED and scene.now
        if told_of != self._told_of:  # other runs may pass
            self._told_of = told_of
            of = frozenset(row.id for row in passing), self._runs.settings_at if self._runs.complete else 0
            self._tells = columns.telling(passing, scene)
            if of != self._differing[0]:
                some = passing[:: 1 + len(passing) // grouping.MANY]
                known = (self._runs.settings.get(row.id) for row in some)
                self._differing = of, table.differing([each for each in known if each is not None])
        about = (self._differing[0], wanted.view, wanted.room, self._tells)
        if about != self._shown[0]:
            made = columns.shown(wanted.view, self._differing[1], self._tells, passing, wanted.room, scene)
            self._shown = about, made
        return self._shown[1]


def _kept(
    rows: Sequence[Row], only: Filter, value: Callable[[Row], Value], known: dict[int, tuple[Row, bool]]
) -> list[Row]:
    """The runs that pass, where that is not `known` yet from their `value`."""
    kept = []
    for row in rows:
        before = known.get(row.id)
        if before is None or before[0] is not row:
            of = value(row)
            before = known[row.id] = row, only.holds(lambda _, of=of: of)  # type: ignore[misc]
        if before[1]:
            kept.append(row)
    return kept


def _metrics(names: Iterable[str]) -> frozenset[str]:
    """The keys of the metrics that have to be read for these names."""
    return frozenset({LOSS} | {asked[0] for name in names if (asked := facts.metric(name)) is not None})


def _groups(by: str, scene: Scene) -> Callable[[Row], Iterable[str]]:
    asker = scene.asker(by)

    def names(row: Row) -> Iterable[str]:
        value = asker(row)
        return value if isinstance(value, tuple) else (str(value or ""),)

    return names
