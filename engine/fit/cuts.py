"""Which layers of a model are simulated so that the stream of all of them can be told.

Layers of one kind do the same. The model is cut twice, to few layers and to a period of layers more; how many are needed depends on how kinds
alternate: `aaaa` has a period of 1, `aaabaaab` one of 4, and a few at either end may be unlike the rest (dense layers before those with experts).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

LONGEST_PERIOD: Final = 12
ATTEMPTS: Final = 3  # a cut that turns out irregular costs as much as it has layers


@dataclass(frozen=True)
class Kind:
    """A layer's kind: `structure` is what modules of what shapes it has, `settings` all else that they hold, such as a sliding window."""

    structure: Hashable
    settings: Hashable


@dataclass(frozen=True)
class Cut:
    """Two models with some of the layers, by their places in the whole, which has `periods` periods more than the short one.

    `alike`: holds only if layers of all kinds turn out to do the same; what those of a kind share may then be freed a few layers sooner or later
    than it is.
    """

    short: tuple[int, ...]
    longer: tuple[int, ...]
    periods: int
    alike: bool = False

    @property
    def cost(self) -> int:
        """Layers to be simulated."""
        return len(self.short) + len(self.longer)


def cuts(kinds: Sequence[Kind]) -> list[Cut]:
    """What to try, cheapest first; empty where all layers cost no more."""
    found = [cut for cut in _periodic(kinds) + _if_alike(kinds) if cut.cost < len(kinds)]
    return sorted(found, key=lambda cut: cut.cost)[:ATTEMPTS]


def _periodic(kinds: Sequence[Kind]) -> list[Cut]:
    """The two smallest cuts for the period and the unlike ends with which there is least to do."""
    families = [
        _family(len(kinds), _head(kinds, period, tail), period, tail)
        for period in range(1, LONGEST_PERIOD + 1)
        for tail in range(period)
        if period + tail <= len(kinds)
    ]
    return min((family for family in families if family), key=lambda family: family[-1].cost, default=[])


def _family(count: int, head: int, period: int, tail: int) -> list[Cut]:
    """Cuts that keep both ends and two periods, or three, of what repeats between them; and what there is of a period more."""
    repeating = count - head - tail
    kept = range(repeating % period + 2 * period, repeating, period)[:2]

    def places(size: int) -> tuple[int, ...]:
        return (*range(head + size), *range(count - tail, count))

    return [Cut(places(size), places(size + period), (repeating - size) // period) for size in kept]


def _head(kinds: Sequence[Kind], period: int, tail: int) -> int:
    """How many layers come before those that repeat."""
    at = len(kinds) - tail - period
    while at > 0 and kinds[at - 1] == kinds[at - 1 + period]:
        at -= 1
    return at


def _if_alike(kinds: Sequence[Kind]) -> list[Cut]:
    """The ends and a layer of each kind between them, where kinds differ in their settings only: these seldom change what is allocated."""
    last = len(kinds) - 1
    between: dict[Kind, int] = {}
    for place in range(1, last):
        between.setdefault(kinds[place], place)
    if len(between) < 2 or len({kind.structure for kind in kinds}) > 1:
        return []
    places = sorted(between.values())
    short, longer = (0, *places, last), (0, *places, places[-1], last)
    return [Cut(short, longer, len(kinds) - len(short), alike=True)]
