"""Which setting mattered: how much what runs were given has to do with what came of them.

Two looks at the same runs, neither of them proof: the rank correlation of each setting with the metric, and (in `forest`) what a
random forest that knows all settings loses when one of them is shuffled. Both work on the order of the runs, not on the values, so
that one run that diverged does not decide everything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Settings = Mapping[str, object]

UNTOLD: Final = ("title", "evaluation.", "training.mirror")
"""Beginnings of settings that have no part in a run's metrics."""

LEAST: Final = 4  # runs; with fewer there is no interval
CHANCE: Final = 0.05  # how often settings that do not matter may look as if one did
LARGE: Final = 0.5  # a correlation that is called large (Cohen, Statistical Power Analysis, 1988)
POWER: Final = 0.8
MANY: Final = 50  # runs; of more the usual approximations of p hold, of fewer the runs' order is shuffled
ALL_ORDERS: Final = 7  # runs of which every order is looked at; of more some
SHUFFLES: Final = 9_999
TOGETHER: Final = 0.8  # association from which two settings cannot well be told apart
FEW: Final = 3  # runs a value, at least: with fewer any two choices seem to go together
LOOKED_AT: Final = 12  # the strongest settings, of which each two are held against each other


@dataclass(frozen=True)
class Setting:
    """One setting, or several that changed only together, over the runs.

    `strength` is 0 to 1: the size of Spearman's rank correlation for a number; for a choice the correlation ratio of the ranks, which for
    two values is the same. `correlation` and its 95 % interval are for numbers alone: positive where more of it went with better runs.
    `p` counts that many settings were looked at (Holm, Scand. J. Statist. 6, 1979). `best` are the lowest and the highest value
    in the best quarter of the runs, or the one value that runs were best with. `share` is the part of what the forest knows that it
    owes to this; None until there is one.
    """

    names: tuple[str, ...]
    kind: Literal["number", "choice"]
    values: int
    strength: float
    correlation: float | None
    low: float | None
    high: float | None
    p: float
    best: tuple[object, ...]
    like: tuple[str, ...] = ()
    share: float | None = None

    @property
    def clear(self) -> bool:
        """Whether chance is an unlikely reason for what is seen."""
        return self.p < CHANCE


@dataclass(frozen=True, eq=False)
class Study:
    """What `runs` runs with a finite value say. `constant` settings are the same in all of them; `own` ones differ in nearly every run.

    `least` is the smallest correlation that can be told from chance, `needed` as many runs as would show a large one (both None where
    there is nothing to look at). `explained` is the share of the runs' order that the forest foretells for runs that it has not seen.
    """

    runs: int
    settings: tuple[Setting, ...]
    constant: int
    own: tuple[str, ...]
    least: float | None
    needed: int | None
    features: Floats  # [runs, settings], NaN where a run has no such setting
    order: Floats  # [runs], ranks of the metric, the best lowest
    higher_is_better: bool = False
    explained: float | None = None


@dataclass(frozen=True, eq=False)
class _Column:
    """A setting over the runs: `codes` number its values as they first occur, `numbers` are what is correlated."""

    name: str
    kind: Literal["number", "choice"]
    numbers: Floats
    codes: tuple[int, ...]
    told: tuple[object, ...]


def study(settings: Sequence[Settings], values: Sequence[float | None], *, higher_is_better: bool = False) -> Study:
    """What runs with these settings and these values of a metric say of the settings, strongest first. Runs without a finite value do not count."""
    kept = [place for place, value in enumerate(values) if value is not None and math.isfinite(value)]
    known = np.array([values[place] for place in kept], np.float64)
    columns, constant, own = _columns([settings[place] for place in kept])
    order = _ranks(-known if higher_is_better else known)
    if len(kept) < LEAST or not columns:
        empty = np.empty((len(kept), 0))
        return Study(len(kept), (), constant, own, None, None, empty, order, higher_is_better)
    groups: dict[tuple[str | int, ...], list[_Column]] = {}
    for column in columns:
        groups.setdefault((column.kind, *_pattern(column)), []).append(column)
    chosen = list(groups.values())
    found = [_setting(group, order) for group in chosen]
    adjusted = _holm([each.p for each in found])
    found = [replace(each, p=p) for each, p in zip(found, adjusted, strict=True)]
    ranked = sorted(range(len(found)), key=lambda place: -found[place].strength)
    lines = _alike([found[place] for place in ranked], [chosen[place][0] for place in ranked])
    features = np.stack([chosen[place][0].numbers for place in ranked], axis=1)
    least, needed = _least(len(kept), len(found)), _needed(len(found))
    return Study(len(kept), lines, constant, own, least, needed, features, order, higher_is_better)


def _columns(settings: Sequence[Settings]) -> tuple[list[_Column], int, tuple[str, ...]]:
    """Settings that differ; how many do not; those of which nearly every run has its own."""
    columns: list[_Column] = []
    constant, own = 0, []
    for name in sorted(set().union(*settings)):
        if name.startswith(UNTOLD):
            continue
        told = tuple(_plain(each.get(name)) for each in settings)
        numeric = all(isinstance(value, int | float) for value in told if value is not None)
        known: dict[object, int] = {}
        codes = tuple(known.setdefault(value, len(known)) for value in told)
        if len(known) < 2:
            constant += 1
        elif not numeric and len(known) > max(2, len(settings) // 2):
            own.append(name)
        else:
            numbers = [math.nan if value is None else float(str(value)) for value in told] if numeric else codes
            columns.append(_Column(name, "number" if numeric else "choice", np.array(numbers, np.float64), codes, told))
    return columns, constant, tuple(own)


def _pattern(column: _Column) -> tuple[int, ...]:
    """Equal for settings that changed only together: choices with each other, numbers that rose or fell with each other."""
    if column.kind == "choice":
        return column.codes
    _, places = np.unique(column.numbers, return_inverse=True)
    return min(tuple(places.tolist()), tuple((places.max() - places).tolist()))


def _plain(value: object) -> object:
    """A number, or text: a switch is a choice, and so is a list."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or isinstance(value, int | float | str):
        return value
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _setting(group: Sequence[_Column], order: Floats) -> Setting:
    from scipy import stats

    column, names = group[0], tuple(each.name for each in group)
    distinct = len(set(column.codes))
    if column.kind == "number":
        there = np.isfinite(column.numbers)
        few = there.sum() < LEAST or any(len(set(each[there])) < 2 for each in (column.numbers, order))
        found = None if few else stats.spearmanr(column.numbers[there], -order[there])
        if found is not None and math.isfinite(found.statistic):
            rho, n = float(found.statistic), int(there.sum())
            low, high = _interval(rho, n)
            ranks = _ranks(column.numbers[there])
            p = float(found.pvalue) if n > MANY else _p(_ranks(order[there]), (ranks - ranks.mean())[:, None])
            best = _best_quarter(column.numbers[there], order[there])
            return Setting(names, "number", distinct, abs(rho), rho, low, high, p, best)
    strength, p = _ratio(np.array(column.codes), order)
    return Setting(names, "choice", distinct, strength, None, None, None, p, (_best_choice(column, order),))


def _interval(rho: float, n: int) -> tuple[float | None, float | None]:
    """95 % interval of Spearman's correlation (Bonett and Wright, Psychometrika 65, 2000); a whole one has none."""
    if abs(rho) > 1 - 1e-12:
        return None, None
    half = 1.96 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def _ratio(codes: NDArray[np.int64], order: Floats) -> tuple[float, float]:
    """The correlation ratio of the ranks, and Kruskal and Wallis' p: H / (n - 1) is its square (Tomczak and Tomczak, TSS 1, 2014)."""
    from scipy import stats

    belongs = codes[:, None] == np.unique(codes)
    if len(set(order.tolist())) < 2:
        return 0.0, 1.0
    found = stats.kruskal(*(order[one] for one in belongs.T))
    p = float(found.pvalue) if len(order) > MANY else _p(order, belongs / np.sqrt(belongs.sum(axis=0)))
    return math.sqrt(max(0.0, min(1.0, float(found.statistic) / (len(order) - 1)))), p


def _p(order: Floats, columns: Floats) -> float:
    """In what share of the orders that the runs might have had it has at least as much to do with `columns` [runs, columns] as in theirs.

    Drawn orders have the runs' own among them, so that none of p is 0 (Phipson and Smyth, SAGMB 9, 2010).
    """
    if len(order) <= ALL_ORDERS:
        orders = np.array(list(permutations(order.tolist())))  # their own first
    else:
        drawn = np.random.default_rng(0).permuted(np.tile(order, (SHUFFLES, 1)), axis=1)
        orders = np.vstack((order, drawn))
    seen = np.square((orders - order.mean()) @ columns).sum(axis=1)
    return float(np.mean(seen > seen[0] * (1 - 1e-9) - 1e-9))


def _best_quarter(numbers: Floats, order: Floats) -> tuple[object, ...]:
    best = numbers[np.argsort(order, kind="stable")[: max(1, math.ceil(len(order) / 4))]]
    return float(best.min()), float(best.max())


def _best_choice(column: _Column, order: Floats) -> object:
    codes = np.array(column.codes)
    code = min(set(column.codes), key=lambda code: float(np.median(order[codes == code])))
    return column.told[column.codes.index(code)]


def _ranks(values: Floats) -> Floats:
    from scipy import stats

    ranks: Floats = stats.rankdata(values)
    return ranks


def _holm(found: Sequence[float]) -> list[float]:
    """Each p so that one below `CHANCE` is as rare as that when none of them means anything."""
    highest, adjusted = 0.0, [1.0] * len(found)
    for rank, place in enumerate(sorted(range(len(found)), key=lambda place: found[place])):
        highest = max(highest, min(1.0, found[place] * (len(found) - rank)))
        adjusted[place] = highest
    return adjusted


def _alike(lines: Sequence[Setting], columns: Sequence[_Column]) -> tuple[Setting, ...]:
    """The strongest settings with the names of those that nearly changed together with them."""
    like: dict[int, list[str]] = {}
    for one, other in combinations(range(min(LOOKED_AT, len(lines))), 2):
        if _association(columns[one], columns[other]) >= TOGETHER:
            like.setdefault(one, []).append(lines[other].names[0])
            like.setdefault(other, []).append(lines[one].names[0])
    return tuple(replace(line, like=tuple(like.get(place, ()))) for place, line in enumerate(lines))


def _association(one: _Column, other: _Column) -> float:
    """0 to 1: of numbers their rank correlation, of settings with few values Cramér's V; the larger of what there is."""
    from scipy import stats

    found = [0.0]
    if one.kind == other.kind == "number":
        both = np.isfinite(one.numbers) & np.isfinite(other.numbers)
        if both.sum() >= LEAST and all(len(set(each.numbers[both])) > 1 for each in (one, other)):
            found.append(abs(float(stats.spearmanr(one.numbers[both], other.numbers[both]).statistic)))
    if FEW * max(max(one.codes) + 1, max(other.codes) + 1) <= len(one.codes):
        counted = np.zeros((max(one.codes) + 1, max(other.codes) + 1), np.int64)
        np.add.at(counted, (one.codes, other.codes), 1)
        found.append(float(stats.contingency.association(counted, method="cramer")))
    return max(found)


def _least(runs: int, settings: int) -> float:
    """The smallest correlation that `clear` can hold for: of Student's t with runs - 2 degrees of freedom, at `CHANCE` over all settings.

    1 where not even one of 1 is clear, because so few runs have one order and its reverse too often by chance.
    """
    from scipy import stats

    if runs <= ALL_ORDERS and 2 * settings / math.factorial(runs) >= CHANCE:
        return 1.0
    t = float(stats.t.ppf(1 - CHANCE / (2 * settings), runs - 2))
    return t / math.sqrt(runs - 2 + t**2)


def _needed(settings: int) -> int:
    """Runs that show a large correlation four times out of five, by the variance that Bonett and Wright give."""
    from scipy import stats

    both = float(stats.norm.ppf(1 - CHANCE / (2 * settings)) + stats.norm.ppf(POWER))
    return 3 + math.ceil((1 + LARGE**2 / 2) * (both / math.atanh(LARGE)) ** 2)
