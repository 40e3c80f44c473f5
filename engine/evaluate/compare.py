"""Is the tuned model better? Rows with a verdict, an interval and what could have been seen, and the verdict in words.

A run is compared with its base, and with the first of the runs where several are given: question by question, on
evaluations of the same suite (same bytes) under the same conditions. What cannot be compared is said, with the command
that makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine.evaluate import statistics
from engine.evaluate.difference import Compared, Verdict, compared_metrics
from engine.evaluate.measures import METRICS, RETENTION, labelled
from engine.evaluate.pairing import BASE, Missing, Pair, pairs_of
from engine.ledger import Ledger, evaluations
from engine.ledger.evaluations import Evaluation, Item
from engine.ledger.runs import Run

SAID: Final = ("better", "worse", "kept", "cannot tell")


@dataclass(frozen=True)
class ComparisonRow:
    """One metric of one run on one suite, against `against` (its base, or another run).

    `base` and `value` are the two figures, `difference` the paired difference with its 95 % interval `low` to `high`,
    all in the metric's own unit (shares are 0 to 1); `p` is adjusted for the number of rows (None where the verdict
    rests on no test); `n` counts questions, `answers` those of all paraphrases; `visible` is the smallest true
    difference that `n` would show with 80 % power. `main` rows carry the verdict of the comparison. `won` and `lost`
    count answers that only one of the two has right. `evaluations` are the run's and the other's.
    """

    suite: str
    metric: str
    run: str
    base: float
    value: float
    difference: float
    low: float
    high: float
    p: float | None
    n: int
    visible: float
    verdict: Verdict
    against: str
    main: bool
    answers: int
    won: int
    lost: int
    note: str
    evaluations: tuple[Evaluation, Evaluation]

    @property
    def title(self) -> str:
        """Suite and metric as people read them."""
        return f"{self.suite} {METRICS[self.metric].label}"


@dataclass(frozen=True)
class Comparison:
    """All rows, and the verdict in words: `headline` first, then `lines`. `missing` is what could not be compared."""

    rows: tuple[ComparisonRow, ...]
    headline: str
    lines: tuple[str, ...]
    missing: tuple[Missing, ...]

    @property
    def worse(self) -> bool:
        """Whether a main row got worse."""
        return any(row.main and row.verdict == "worse" for row in self.rows)


def compare(ledger: Ledger, compared: Sequence[Run]) -> Comparison:
    """The comparison of each run with its base, and of the later runs with the first."""
    pairs, missing = pairs_of(ledger, compared)
    answers: dict[int, list[Item]] = {}
    for pair in pairs:
        for evaluation in (pair.tuned, pair.other):
            if evaluation.id not in answers:
                answers[evaluation.id] = evaluations.items(ledger, evaluation)
    rows: list[ComparisonRow] = []
    for run, against in dict.fromkeys((pair.run.uid, pair.against) for pair in pairs):
        rows += _family([pair for pair in pairs if (pair.run.uid, pair.against) == (run, against)], answers)
    return Comparison(tuple(rows), _headline(rows, compared), _lines(rows, answers), tuple(missing))


def _family(pairs: Sequence[Pair], answers: Mapping[int, list[Item]]) -> list[ComparisonRow]:
    """The rows of one run against one other. Main rows are adjusted for their number, others for all."""
    drafts = [
        (pair, one)
        for pair in pairs
        for one in compared_metrics(
            answers[pair.other.id], answers[pair.tuned.id], retention=pair.tuned.suite.startswith(RETENTION)
        )
    ]
    tested = [place for place, (_, one) in enumerate(drafts) if one.fixed is None]
    adjusted = _adjusted(drafts, tested) | _adjusted(drafts, [place for place in tested if drafts[place][1].main])
    return [_row(pair, one, adjusted.get(place)) for place, (pair, one) in enumerate(drafts)]


def _adjusted(drafts: Sequence[tuple[Pair, Compared]], places: Sequence[int]) -> dict[int, float]:
    return dict(zip(places, statistics.holm([drafts[place][1].difference.p for place in places]), strict=True))


def _row(pair: Pair, one: Compared, p: float | None) -> ComparisonRow:
    difference = one.difference
    if one.fixed is not None:
        verdict: Verdict = one.fixed
    else:
        higher = METRICS[one.metric].higher_is_better
        verdict = statistics.verdict(difference, 1.0 if p is None else p, higher_is_better=higher)
    return ComparisonRow(
        suite=pair.tuned.suite,
        metric=one.metric,
        run=pair.run.name,
        base=one.base,
        value=one.value,
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        p=p,
        n=one.n,
        visible=difference.visible,
        verdict=verdict,
        against=pair.against,
        main=one.main,
        answers=one.answers,
        won=one.won,
        lost=one.lost,
        note=one.note,
        evaluations=(pair.tuned, pair.other),
    )


def _headline(rows: Sequence[ComparisonRow], compared: Sequence[Run]) -> str:
    """The verdict in words, a part for each run and what it is compared with."""
    said: list[str] = []
    for run, against in dict.fromkeys((row.run, row.against) for row in rows):
        verdicts = [row.verdict for row in rows if (row.run, row.against) == (run, against) and row.main]
        counts = [f"{word} {verdicts.count(word)}" for word in SAID if word != "kept" or "kept" in verdicts]
        said.append(f"{run} against {'its base' if against == BASE else against}: {', '.join(counts)}")
    if said:
        return "; ".join(said)
    return f"Nothing to compare yet for {', '.join(run.name for run in compared)}"


def _lines(rows: Sequence[ComparisonRow], answers: Mapping[int, list[Item]]) -> tuple[str, ...]:
    """What should be known beside the verdict: what was lost, how small a difference the finest suite would have seen, and
    what guessing would get.
    """
    lines: list[str] = []
    names = dict.fromkeys(row.run for row in rows)
    for run in names:
        counted = [row for row in rows if row.run == run and row.against == BASE and row.metric == "accuracy"]
        if counted:
            who = "It" if len(names) == 1 else run
            lost, won = sum(row.lost for row in counted), sum(row.won for row in counted)
            sees = [
                row.visible for row in rows if (row.run, row.against) == (run, BASE) and row.main and row.metric != "j"
            ]
            finest = f" · sees from {100 * min(sees):.1f} points" if sees else ""
            lines.append(f"{who} lost {lost} answers that the base had right, won {won}{finest}")
    tables = dict.fromkeys((row.suite, row.evaluations[0].id) for row in rows if row.metric == "macro_f1")
    for suite, evaluation in tables:
        if suite.startswith(RETENTION):
            continue  # what matters there is what was kept
        table = labelled(answers[evaluation])
        if table is not None:
            gold = list(table.gold.values())
            common = max(sorted(set(gold)), key=gold.count)
            share = 100 * gold.count(common) / len(gold)
            line = f"always saying {common} would get {share:.1f} on {suite}"
            if line not in lines:
                lines.append(line)
    return tuple(lines)
