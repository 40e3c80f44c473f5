"""Figures of a confusion table - macro-F1 and Cohen's kappa - and their paired differences.

A table counts gold classes in rows and predicted ones in columns; the last column may be *unparsed*, which is no gold
class. The figures broadcast over leading axes, so that ten thousand resampled tables cost one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.evaluate.statistics import CHUNK, DRAWS, Z_POWER, Difference, Floats, Z, expanded_tails

UNPARSED: Final = "unparsed"
Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Confusion:
    """`counts[gold, predicted]`; `labels` name the columns, the first rows of which are the gold classes."""

    labels: tuple[str, ...]
    counts: Floats


def confusion(gold: Sequence[str], predicted: Sequence[str | None], choices: Sequence[str]) -> Confusion:
    """The table of gold against predicted; None and anything that is no choice is unparsed."""
    labels = (*choices, UNPARSED)
    place = {label: number for number, label in enumerate(choices)}
    counts = np.zeros((len(labels), len(labels)))
    for wanted, said in zip(gold, predicted, strict=True):
        counts[place[wanted], place.get(said or "", len(choices))] += 1
    return Confusion(labels, counts)


def macro_f1(counts: Floats) -> Floats:
    """Mean F1 over the classes that are the right answer somewhere, so that two models are averaged over the same ones.

    As scikit-learn's f1_score(average="macro", labels=the gold ones). An unparsed answer is a miss of its gold class
    and a false alarm of none.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)[..., :-1]
    gold, said = counts.sum(-1)[..., :-1], counts.sum(-2)[..., :-1]
    occurs = gold > 0
    f1 = np.divide(2 * hits, gold + said, out=np.zeros_like(hits), where=occurs)
    return np.asarray(f1.sum(-1) / np.maximum(occurs.sum(-1), 1))


def kappa(counts: Floats) -> Floats:
    """Cohen's kappa (1960, doi 10.1177/001316446002000104): agreement beyond chance; 0 where chance alone explains all,
    unparsed is a class.
    """
    n = np.maximum(counts.sum((-2, -1)), 1)
    agreed = np.trace(counts, axis1=-2, axis2=-1) / n
    chance = (counts.sum(-1) * counts.sum(-2)).sum(-1) / n**2
    beyond = 1 - chance
    return np.asarray(np.divide(agreed - chance, beyond, out=np.zeros_like(agreed), where=beyond > 0))


def paired_table_difference(
    statistic: Statistic,
    gold: Sequence[str],
    base: Sequence[str | None],
    tuned: Sequence[str | None],
    choices: Sequence[str],
) -> Difference:
    """The difference of a table's figure between two models on the same questions.

    Interval: questions drawn with replacement. p: each question's two answers swapped by a coin, approximate
    randomisation (Noreen 1989; Yeh 2000, https://aclanthology.org/C00-2137). Both act on the counts of (gold, base,
    tuned) cells: a multinomial and a binomial draw.
    """
    labels = len(choices) + 1
    place = {label: number for number, label in enumerate(choices)}
    joint: NDArray[np.int64] = np.zeros((labels, labels, labels), np.int64)
    for wanted, one, other in zip(gold, base, tuned, strict=True):
        joint[place[wanted], place.get(one or "", len(choices)), place.get(other or "", len(choices))] += 1
    n = int(joint.sum())
    observed = float(_gap(statistic, joint.astype(float)))
    if n < 2:
        return Difference(observed, -1.0, 1.0, 1.0, 1.0)
    gaps, shuffled = _drawn_gaps(statistic, joint)
    extreme = int((np.abs(shuffled) >= abs(observed) - 1e-12).sum())
    low, high = np.quantile(gaps, expanded_tails(n))
    visible = (Z + Z_POWER) * float(gaps.std())
    return Difference(observed, min(observed, low), max(observed, high), (extreme + 1) / (DRAWS + 1), visible)


def _drawn_gaps(statistic: Statistic, joint: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """`DRAWS` differences of resampled questions, and as many of questions whose two answers were swapped by a coin."""
    generator = np.random.default_rng(2)
    n = int(joint.sum())
    chances = _chances(joint)
    gaps: list[Floats] = []
    shuffled: list[Floats] = []
    chunk = max(1, CHUNK // joint.size)
    for start in range(0, DRAWS, chunk):
        draws = min(chunk, DRAWS - start)
        drawn = generator.multinomial(n, chances.reshape(-1), size=draws).reshape(draws, *joint.shape)
        gaps.append(_gap(statistic, drawn.astype(float)))
        swapped = generator.binomial(joint, 0.5, size=(draws, *joint.shape))
        shuffled.append(_gap(statistic, (joint - swapped + swapped.swapaxes(-1, -2)).astype(float)))
    return np.concatenate(gaps), np.concatenate(shuffled)


def _chances(joint: NDArray[np.int64]) -> Floats:
    """The share of every (gold, base, tuned) cell.

    Where no answer differs, one more question in each direction is taken as answered by one model only, as `paired_binary` does: drawing
    anew would find no spread at all, which would read as if any difference were seen.
    """
    counts = joint.astype(float)
    if np.trace(joint, axis1=1, axis2=2).sum() == joint.sum():
        gold = np.flatnonzero(joint.sum((1, 2)))
        counts[gold, gold, -1] += 1 / len(gold)
        counts[gold, -1, gold] += 1 / len(gold)
    return np.asarray(counts / counts.sum())


def _gap(statistic: Statistic, joint: Floats) -> Floats:
    """Tuned minus base, from counts[..., gold, base, tuned]."""
    return np.asarray(statistic(joint.sum(-2)) - statistic(joint.sum(-1)))
