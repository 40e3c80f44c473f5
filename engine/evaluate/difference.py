"""Two models' answers to the same suite, metric by metric: paired differences before p is adjusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine.evaluate import statistics
from engine.evaluate.measures import MAIN, METRICS, TABLE_METRICS, Labelled, Measure, labelled, measures
from engine.evaluate.statistics import Difference
from engine.evaluate.tables import paired_table_difference
from engine.ledger.evaluations import Item

Verdict = Literal["better", "worse", "kept", "cannot tell"]
BOUNDED: Final = {"share": 1.0, "coefficient": 2.0}  # the largest difference there can be


@dataclass(frozen=True)
class Compared:
    """One metric of two models. `fixed` is a verdict that does not rest on p (retention's); `won` and `lost` count
    answers.
    """

    metric: str
    main: bool
    base: float
    value: float
    difference: Difference
    n: int
    answers: int
    won: int = 0
    lost: int = 0
    fixed: Verdict | None = None
    note: str = ""


def compared_metrics(base: Sequence[Item], tuned: Sequence[Item], *, retention: bool) -> list[Compared]:
    """Every metric that both have, in the order of `METRICS`, over the answers that both gave.

    With `retention` the verdict is what was kept of the base's right answers; accuracy then stands beside it.
    """
    one, other = measures(base), measures(tuned)
    main = MAIN - {"accuracy"} if retention else MAIN - {"retained"}
    found = {
        name: _mean_metric(name, name in main, one[name], other[name])
        for name in one.keys() & other.keys()
        if one[name].values.keys() & other[name].values.keys()
    }
    if retention and "accuracy" in found:
        found["retained"] = _retained(one["accuracy"], other["accuracy"])
    tables = labelled(base), labelled(tuned)
    if tables[0] is not None and tables[1] is not None and tables[0].choices == tables[1].choices:
        found |= {name: _table_metric(name, tables[0], tables[1]) for name in TABLE_METRICS}
    return [found[name] for name in METRICS if name in found]


def _mean_metric(name: str, main: bool, base: Measure, tuned: Measure) -> Compared:
    units = sorted(base.values.keys() & tuned.values.keys())
    left, right = [base.values[unit] for unit in units], [tuned.values[unit] for unit in units]
    questions = [base.questions[unit] for unit in units]
    n = len(set(questions))
    won = sum(b < t for b, t in zip(left, right, strict=True))
    lost = sum(b > t for b, t in zip(left, right, strict=True))
    # Where no answer differs, drawing anew finds no spread at all, which would read as if any difference were seen.
    alike = left == right and METRICS[name].scale in BOUNDED
    if alike or (n == len(units) and {*left, *right} <= {0.0, 1.0}):
        difference = statistics.paired_binary(won, lost, n)
    else:
        difference = _bounded(name, statistics.clustered_bootstrap(left, right, questions))
    means = sum(left) / len(units), sum(right) / len(units)
    return Compared(name, main, *means, difference, n, len(units), won, lost)


def _bounded(name: str, difference: Difference) -> Difference:
    """Bounds beyond the largest possible difference say no more than it."""
    most = BOUNDED.get(METRICS[name].scale)
    if most is None:
        return difference
    return Difference(
        difference.value,
        max(-most, difference.low),
        min(most, difference.high),
        difference.p,
        min(most, difference.visible),
    )


def _table_metric(name: str, base: Labelled, tuned: Labelled) -> Compared:
    units = sorted(base.gold.keys() & tuned.gold.keys())
    statistic = TABLE_METRICS[name]
    difference = paired_table_difference(
        statistic,
        [base.gold[unit] for unit in units],
        [base.predicted[unit] for unit in units],
        [tuned.predicted[unit] for unit in units],
        base.choices,
    )
    n = len({item for item, _ in units})
    note = "" if n == len(units) else "paraphrases are counted as if they were questions of their own"
    return Compared(name, False, base.figure(statistic), tuned.figure(statistic), difference, n, len(units), note=note)


def _retained(base: Measure, tuned: Measure) -> Compared:
    """R over the questions as asked (paraphrases aside), as a difference from keeping everything."""
    units = sorted(unit for unit in base.values.keys() & tuned.values.keys() if unit[1] == 0)
    kept = statistics.retention([base.values[unit] == 1 for unit in units], [tuned.values[unit] == 1 for unit in units])
    if kept.n == 0:
        nothing = Difference(float("nan"), -1.0, 0.0, 1.0, 1.0)
        note = "the base had nothing right that could be kept"
        return Compared("retained", True, 1.0, float("nan"), nothing, 0, 0, kept.gains, 0, "cannot tell", note)
    interval = kept.kept
    visible = statistics.visible_loss(kept.n)
    difference = Difference(interval.value - 1, interval.low - 1, interval.high - 1, 1.0, visible)
    fixed: Verdict = "kept" if kept.level == "pass" else "worse" if interval.high < statistics.MARGIN else "cannot tell"
    note = (
        f"kept {100 * interval.value:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}],"
        f" margin {100 * statistics.MARGIN:.0f}"
    )
    if kept.level == "warn":
        note += f"; at least {100 * statistics.WARN:.0f} % for sure"
    return Compared(
        "retained", True, 1.0, interval.value, difference, kept.n, kept.n, kept.gains, kept.losses, fixed, note
    )
