"""How sure a figure is: intervals, paired tests, and the smallest difference that could have been seen. Pure; scipy is
loaded when needed.

Differences are always tuned minus base, on the same questions. Every random draw comes from a fixed seed, so that a
comparison says the same thing twice.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["better", "worse", "cannot tell"]
Floats = NDArray[np.float64]

LEVEL: Final = 0.95
POWER: Final = 0.80
Z: Final = NormalDist().inv_cdf((1 + LEVEL) / 2)  # of a two-sided test at LEVEL
Z_POWER: Final = NormalDist().inv_cdf(POWER)
DRAWS: Final = 10_000
MARGIN: Final = 0.95  # share of the base's right answers that is to be kept
WARN: Final = 0.90
CHUNK: Final = 4_000_000  # random numbers held at once


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval at `LEVEL`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A paired difference: its interval, two-sided p, and the smallest true difference that as many questions would
    show (80 % power).
    """

    value: float
    low: float
    high: float
    p: float
    visible: float


def wilson(successes: float, n: int) -> Interval:
    """The score interval of one rate (Wilson 1927, doi 10.1080/01621459.1927.10502953); [0, 1] when n is 0.

    The textbook p +- 1.96 sqrt(p q / n) covers far less than it says near 0 and 1.
    """
    if n == 0:
        return Interval(math.nan, 0.0, 1.0)
    rate = successes / n
    centre = (rate + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(rate * (1 - rate) / n + Z * Z / (4 * n * n))
    # At 0 and n the bound is exact; in floating point it would miss by a hair.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(rate, low, high)


def mcnemar_exact(won: int, lost: int) -> float:
    """Two-sided p of the exact McNemar test: won and lost are a fair coin's throws if neither model is better (McNemar
    1947).
    """
    if won + lost == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost, 0.5).pvalue)


def paired_binary(won: int, lost: int, n: int) -> Difference:
    """The difference of two rates measured on the same n questions; `won` are right in the tuned model only, `lost` in
    the base only.

    Interval: adjusted Wald of Bonett and Price 2012 (doi 10.3102/1076998611411915): one question is added to each
    discordant count, which covers close to `LEVEL` from about ten questions on. p: exact McNemar.
    """
    if n == 0:
        return Difference(math.nan, -1.0, 1.0, 1.0, 1.0)
    up, down = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    value = (won - lost) / n
    low, high = max(-1.0, min(value, up - down - half)), min(1.0, max(value, up - down + half))
    return Difference(value, low, high, mcnemar_exact(won, lost), smallest_visible(n, (won + lost + 1) / (n + 2)))


def smallest_visible(n: int, discordance: float = 0.1) -> float:
    """The smallest true difference of paired rates that n questions show with 80 % power, when `discordance` of them
    differ.

    Solves Connor 1987 (doi 10.2307/2531961) for the difference d: sqrt(n) d = z_a sqrt(q) + z_b sqrt(q - d^2). A
    difference cannot exceed the discordance, so few questions need more of it; 1 when even that is not enough.
    """
    if n == 0:
        return 1.0
    za, zb = Z, Z_POWER
    root = math.sqrt(n) * za * math.sqrt(discordance)
    inner = root * root - (n + zb * zb) * discordance * (za * za - zb * zb)
    d = (root + math.sqrt(max(0.0, inner))) / (n + zb * zb)
    if inner >= 0 and d <= discordance:
        return d
    # All discordance in one direction, q = d: sqrt(n d) = z_a + z_b sqrt(1 - d), a contraction for d in (0, 1].
    for _ in range(100):
        d = min(1.0, (za + zb * math.sqrt(1 - min(1.0, d))) ** 2 / n)
    return d


def clustered_bootstrap(base: Sequence[float], tuned: Sequence[float], clusters: Sequence[Hashable]) -> Difference:
    """The mean difference of paired figures whose questions come in clusters (paraphrases of one question are not
    independent).

    Whole clusters are drawn with replacement. Interval: percentiles, widened for few clusters by Student's t
    (Hesterberg 2015, "expanded percentile", doi 10.1080/00031305.2015.1089789). p: sign-flip randomisation of clusters
    (Fisher-Pitman).
    """
    differences = np.asarray(tuned, float) - np.asarray(base, float)
    places: dict[Hashable, int] = {}
    index = np.array([places.setdefault(cluster, len(places)) for cluster in clusters], int)
    if len(places) < 2:
        return Difference(
            float(differences.mean()) if len(differences) else math.nan, -math.inf, math.inf, 1.0, math.inf
        )
    sums: Floats = np.bincount(index, differences).astype(float)
    sizes: Floats = np.bincount(index).astype(float)
    value = float(sums.sum() / sizes.sum())
    draws = _resampled_means(sums, sizes)
    low, high = np.quantile(draws, expanded_tails(len(sums)))
    spread = float(draws.std())
    visible = (Z + Z_POWER) * spread
    return Difference(value, min(value, float(low)), max(value, float(high)), _sign_flip(sums), visible)


def expanded_tails(n: int) -> tuple[float, float]:
    """The percentiles of a bootstrap that make an interval of `LEVEL` with n clusters: a little wider than 2.5 and 97.5
    (Hesterberg 2015).
    """
    from scipy.stats import t

    tail = NormalDist().cdf(-math.sqrt(n / (n - 1)) * float(t.ppf((1 + LEVEL) / 2, n - 1)))
    return tail, 1 - tail


def _resampled_means(sums: Floats, sizes: Floats) -> Floats:
    """`DRAWS` bootstrap means over clusters. Equal clusters are drawn together: a multinomial over the distinct ones,
    the same law.
    """
    distinct, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(0)
    means: list[Floats] = []
    chunk = max(1, CHUNK // len(distinct))
    for start in range(0, DRAWS, chunk):
        times = generator.multinomial(len(sums), counts / len(sums), size=min(chunk, DRAWS - start))
        totals = times @ distinct
        means.append(totals[:, 0] / totals[:, 1])
    return np.concatenate(means)


def _sign_flip(sums: Floats) -> float:
    """Two-sided p that cluster sums are symmetric around 0, over `DRAWS` random signs."""
    sizes, counts = np.unique(np.abs(sums[sums != 0]), return_counts=True)
    if len(sizes) == 0:
        return 1.0
    generator = np.random.default_rng(1)
    plus = np.stack([generator.binomial(count, 0.5, DRAWS) for count in counts], axis=1)
    totals = (2 * plus - counts) @ sizes
    # The observed signs are one of the draws: p is never 0 (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585).
    extreme = int((np.abs(totals) >= abs(float(sums.sum())) - 1e-12).sum())
    return (extreme + 1) / (DRAWS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for their number, in the same order (Holm 1979): the chance of any false alarm stays below the
    level.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def verdict(difference: Difference, adjusted_p: float, *, higher_is_better: bool) -> Verdict:
    """Better or worse when both the interval leaves out 0 and the adjusted p is below 5 %; else nobody can tell."""
    if adjusted_p >= 1 - LEVEL or not (difference.low > 0 or difference.high < 0):
        return "cannot tell"
    return "better" if (difference.low > 0) == higher_is_better else "worse"


def visible_loss(n: int) -> float:
    """The share that has to be lost of n right answers before their loss beyond 1 - `MARGIN` shows with 80 % power
    (normal approximation).

    Solves x - (1 - margin) = z_a sqrt(margin (1 - margin) / n) + z_b sqrt(x (1 - x) / n) for x by iteration.
    """
    if n == 0:
        return 1.0
    allowed = 1 - MARGIN
    lost = allowed
    for _ in range(50):
        spread = Z * math.sqrt(allowed * MARGIN / n)
        lost = min(1.0, allowed + spread + Z_POWER * math.sqrt(lost * (1 - lost) / n))
    return lost


@dataclass(frozen=True)
class Retention:
    """What the tuned model kept of the answers that its base had right. `level` is pass, warn or fail of the
    non-inferiority test.
    """

    kept: Interval
    n: int
    gains: int
    losses: int
    level: Literal["pass", "warn", "fail"]


def retention(base_right: Sequence[bool], tuned_right: Sequence[bool]) -> Retention:
    """R = P(tuned right | base right) with Wilson's interval, gains and losses.

    Non-inferiority: the lower end of the interval has to reach `MARGIN` (pass) or `WARN` (warn). A large p would not
    show that nothing was lost, only that little was asked.
    """
    pairs = list(zip(base_right, tuned_right, strict=True))
    n = sum(base for base, _ in pairs)
    kept = wilson(sum(base and tuned for base, tuned in pairs), n)
    losses = sum(base and not tuned for base, tuned in pairs)
    gains = sum(tuned and not base for base, tuned in pairs)
    level: Literal["pass", "warn", "fail"] = "pass" if kept.low >= MARGIN else "warn" if kept.low >= WARN else "fail"
    return Retention(kept, n, gains, losses, level)
