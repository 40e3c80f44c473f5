"""How often the rows of each source are seen: a weight of 1 is once an epoch, 2 twice, 0.5 half of the rows.

The whole part of a weight repeats every row. Of its fraction that share of the rows, to the nearest row and at least one where the weight is
less than 1, is seen once more: those whose hash with the seed is smallest. So the choice is the same for the whole run and on every machine,
hangs on no other source, and a larger weight only adds rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A source's part in the mixture: of `rows` training rows `seen` are seen in an epoch, repeats counted; `share` is of all that are."""

    source: str
    weight: float
    rows: int
    seen: int
    share: float


def repeats_of(weight: float, rows: Sequence[int], names: Sequence[str], seed: int) -> dict[int, int]:
    """How often each of a source's training rows is seen in an epoch; `names` are the ids of all rows."""
    whole = int(weight)
    extra = round((weight - whole) * len(rows))
    if not whole:
        extra = max(1, extra)
    chosen = frozenset(sorted(rows, key=lambda row: _lot(seed, names[row]))[:extra] if extra else ())
    return {row: whole + (row in chosen) for row in rows}


def mixture(sources: Iterable[tuple[str, float]], repeats: Sequence[dict[int, int]]) -> tuple[Part, ...]:
    """The parts of sources, given as name and weight with what `repeats_of` said of each."""
    seen = [sum(rows.values()) for rows in repeats]
    total = max(1, sum(seen))
    return tuple(
        Part(name, weight, len(rows), count, count / total)
        for (name, weight), rows, count in zip(sources, repeats, seen, strict=True)
    )


def _lot(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed} weight {name}".encode()).digest()
