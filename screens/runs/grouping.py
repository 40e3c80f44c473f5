"""Runs in their order, and put together: by sweep, tag, base model or method, under a line that sums them up and folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple

from engine.ledger.facts import Value
from engine.ledger.states import State
from engine.ledger.table import Row
from screens.widgets.line import fitted

GROUPINGS: Final[Mapping[str, str]] = {
    "": "no groups",
    "sweep": "sweep",
    "tag": "tag",
    "model": "base model",
    "method": "method",
}
"""What runs can be grouped by, named as in the filter, and how that is called."""


MANY: Final = 1000  # runs that are looked at, evenly spread, to find out in which settings thousands differ: what only few have tells little
LONGEST: Final = 18  # columns of a group's name in the table
END: Final = 5  # letters of a name that is too long which are kept at its end: what tells a sweep and its runs apart


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that have something in common, in their order: `by` is what, `name` which. What is found of all of them is found once."""

    by: str
    name: str
    rows: tuple[Row, ...]
    _found: dict[str, Value] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> str:
        """Of its line."""
        return f"{self.by} {self.name}"

    @cached_property
    def uids(self) -> frozenset[str]:
        """Of all its runs."""
        return frozenset(row.uid for row in self.rows)

    @cached_property
    def states(self) -> dict[State, int]:
        """How many runs are in each state."""
        return counted(self.rows)

    @cached_property
    def members(self) -> tuple[Item, ...]:
        """The lines of its runs."""
        return tuple(Item(f"{row.uid} {self.key}", row, self) for row in self.rows)

    def found(self, name: str, of: Callable[[Sequence[Row], str], Value]) -> Value:
        """What `of` finds of the runs under this name."""
        if name not in self._found:
            self._found[name] = of(self.rows, name)
        return self._found[name]


class Item(NamedTuple):
    """A line of the table: a run, or the group that the following runs belong to if it is `open`. A run with several tags stands in several
    groups.
    """

    key: str
    row: Row | None
    group: Group | None
    open: bool = False

    @property
    def uids(self) -> frozenset[str]:
        """The runs that marking this line marks."""
        if self.row is not None:
            return frozenset((self.row.uid,))
        return self.group.uids if self.group else frozenset()

    @property
    def title(self) -> str:
        """Of a group: `▸ rank (6)`; short enough for the number to be seen."""
        if self.group is None:
            return ""
        name = fitted(self.group.name, LONGEST, keep_end=END).rstrip()
        return f"{'▾' if self.open else '▸'} {name} ({len(self.group.rows)})"


def counted(rows: Iterable[Row]) -> dict[State, int]:
    """How many runs are in each state, in the order of the states."""
    found: dict[State, int] = {}
    for row in rows:
        found[row.state] = found.get(row.state, 0) + 1
    return {state: found[state] for state in State if state in found}


def occurring(rows: Iterable[Row], value: Callable[[Row], Value]) -> list[str]:
    """The values that runs have, as texts, the most frequent first."""
    found: Counter[str] = Counter()
    for known, many in Counter(map(value, rows)).items():
        for text in known if isinstance(known, tuple) else () if known in (None, "") else (_text(known),):
            found[text] += many
    return [text for text, _ in found.most_common()]


def _text(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:g}"


def ordered(rows: Sequence[Row], value: Callable[[Row], Value], *, descending: bool) -> list[Row]:
    """Sorted by `value`: numbers, then texts without regard to case. Equal ones stay in their order; those that have none, or NaN, come last
    either way.
    """
    numbers: list[tuple[float, Row]] = []
    texts: list[tuple[str, Row]] = []
    without: list[Row] = []
    for row, known in zip(rows, map(value, rows), strict=True):
        if isinstance(known, (int, float)):  # not a union, which would be made anew for each of thousands
            if known == known:
                numbers.append((known, row))
            else:
                without.append(row)
        elif known:
            texts.append(((known if isinstance(known, str) else ", ".join(known)).casefold(), row))
        else:
            without.append(row)
    numbers.sort(key=itemgetter(0), reverse=descending)
    texts.sort(key=itemgetter(0), reverse=descending)
    measured = chain(texts, numbers) if descending else chain(numbers, texts)
    return [row for _, row in measured] + without


def alone(rows: Iterable[Row], before: Mapping[int, Item]) -> dict[int, Item]:
    """The lines of runs in no group, by row id; those of `before` where their rows have not changed."""
    known = ((row, before.get(row.id)) for row in rows)
    return {row.id: line if line and line.row is row else Item(row.uid, row, None) for row, line in known}


def grouped(rows: Sequence[Row], by: str, names: Callable[[Row], Iterable[str]]) -> list[Row | Group]:
    """Groups, each where the first of its runs would stand; runs without a name for it stay alone. `names` gives the groups that a run is in."""
    members: dict[str, list[Row]] = {}
    order: list[Row | str] = []
    for row in rows:
        known = [name for name in names(row) if name]
        if not known:
            order.append(row)
        for name in known:
            if name not in members:
                members[name] = []
                order.append(name)
            members[name].append(row)
    return [each if isinstance(each, Row) else Group(by, each, tuple(members[each])) for each in order]


def lines(order: Iterable[Row | Group], unfolded: AbstractSet[str]) -> Iterator[Item]:
    """The lines of a table with groups; `unfolded` are the keys of those whose runs are shown."""
    for each in order:
        if isinstance(each, Row):
            yield Item(each.uid, each, None)
            continue
        unfolds = each.key in unfolded
        yield Item(each.key, None, each, unfolds)
        if unfolds:
            yield from each.members
