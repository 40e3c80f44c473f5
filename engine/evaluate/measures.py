"""What answers amount to: one figure per question and metric, kept apart so that two models can be compared question by
question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

from engine.evaluate.scorers import normalise
from engine.evaluate.tables import Statistic, confusion, kappa, macro_f1
from engine.ledger.evaluations import Item

Unit = tuple[str, int]  # item and variant


@dataclass(frozen=True)
class Metric:
    """How a figure is read. `scale` share: 0 to 1, shown in points of 100; coefficient: shown as it is; nats."""

    name: str
    label: str
    meaning: str
    higher_is_better: bool = True
    scale: Literal["share", "coefficient", "nats"] = "share"


METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "accuracy", "Right answers: by likelihood where there are choices, else by the text."),
        Metric("retained", "kept", "Of the answers that the base had right, those that are still right."),
        Metric("consistency", "consistency", "Pairs of paraphrases of a question that get the same answer."),
        Metric("worst_variant", "worst paraphrase", "Questions that are right in all their paraphrases."),
        Metric("j", "traps, J", "Youden's J: traps declined minus real twins declined.", scale="coefficient"),
        Metric("abstention", "traps declined", "Questions about invented things that are declined."),
        Metric("refusal", "twins declined", "Questions about real things that are declined.", higher_is_better=False),
        Metric("macro_f1", "macro-F1", "Mean F1 over the choices."),
        Metric("kappa", "kappa", "Cohen's kappa with the right answers.", scale="coefficient"),
        Metric("accuracy_written", "accuracy, written", "Right answers as read from the text."),
        Metric("unparsed", "unparsed", "Texts that name none of the choices.", higher_is_better=False),
        Metric("rouge_l", "ROUGE-L", "Words in common with the right answer, in order (F1)."),
        Metric("nll", "gold answer NLL", "Surprise at the right answer, in nats a token.", False, "nats"),
    )
}
MAIN: Final = frozenset({"accuracy", "retained", "consistency", "j"})  # these carry the verdict
RETENTION: Final = "retention"  # suites whose name begins so ask what was kept


@dataclass(frozen=True)
class Measure:
    """One metric's figure for every unit it applies to, and which question each unit belongs to."""

    values: Mapping[Unit, float]
    questions: Mapping[Unit, str]

    @property
    def mean(self) -> float:
        """Over all units; NaN without any."""
        return math.fsum(self.values.values()) / len(self.values) if self.values else math.nan


@dataclass(frozen=True)
class Labelled:
    """Gold and predicted choice of every unit; None is unparsed."""

    gold: Mapping[Unit, str]
    predicted: Mapping[Unit, str | None]
    choices: tuple[str, ...]

    def figure(self, statistic: Statistic) -> float:
        """A figure of the confusion table."""
        units = list(self.gold)
        table = confusion([self.gold[unit] for unit in units], [self.predicted[unit] for unit in units], self.choices)
        return float(statistic(table.counts))


TABLE_METRICS: Final[Mapping[str, Statistic]] = {"macro_f1": macro_f1, "kappa": kappa}


def measures(items: Sequence[Item]) -> dict[str, Measure]:
    """Every mean-like metric that these answers have."""
    plain = [item for item in items if "trap" not in item.detail]
    found: dict[str, Measure] = {}
    _add(found, "accuracy", plain, lambda item: item.correct)
    _add(found, "accuracy_written", plain, lambda item: _number(item, "written"))
    _add(found, "unparsed", plain, lambda item: float(item.extracted is None) if "choices" in item.detail else None)
    _add(found, "rouge_l", plain, lambda item: _number(item, "rouge_l"))
    _add(found, "nll", plain, lambda item: _number(item, "nll"))
    found |= _over_variants(plain)
    found |= _traps(items)
    return found


def labelled(items: Iterable[Item]) -> Labelled | None:
    """Gold and predicted choices, if all these answers were chosen from the same ones; None otherwise."""
    chosen = [
        item for item in items if "choices" in item.detail and item.gold is not None and "trap" not in item.detail
    ]
    sets = {tuple(map(str, _list(item, "choices"))) for item in chosen}
    if len(sets) != 1:
        return None
    gold = {(item.item, item.variant): str(item.gold) for item in chosen}
    return Labelled(gold, {(item.item, item.variant): prediction(item) for item in chosen}, sets.pop())


def scores(items: Sequence[Item]) -> dict[str, float]:
    """All figures of one model on one suite, by metric name: what an evaluation row holds."""
    found = {name: measure.mean for name, measure in measures(items).items()}
    table = labelled(items)
    if table is not None:
        found |= {name: table.figure(statistic) for name, statistic in TABLE_METRICS.items()}
    return {name: found[name] for name in METRICS if name in found}


def prediction(item: Item) -> str | None:
    """The answer that counts: the likeliest choice, else what was read from the text."""
    chosen = item.detail.get("chosen")
    return str(chosen) if chosen is not None else item.extracted


def questions_asked(items: Iterable[Item]) -> int:
    """Different questions, whatever the number of paraphrases."""
    return len({item.item for item in items})


def _add(found: dict[str, Measure], name: str, items: Iterable[Item], value: Callable[[Item], float | None]) -> None:
    values = {(item.item, item.variant): figure for item in items if (figure := value(item)) is not None}
    if values:
        found[name] = Measure(values, {unit: unit[0] for unit in values})


def _over_variants(items: Sequence[Item]) -> dict[str, Measure]:
    """Agreement over all pairs of paraphrases, and the worst paraphrase, of every question that has several.

    Unparsed answers agree with nothing. A model that always says the same is consistent: accuracy stands beside it.
    """
    by_question: dict[str, list[Item]] = {}
    for item in items:
        by_question.setdefault(item.item, []).append(item)
    agreement: dict[Unit, float] = {}
    worst: dict[Unit, float] = {}
    for question, variants in by_question.items():
        if len(variants) < 2:
            continue
        said = [None if (text := prediction(item)) is None else normalise(text) for item in variants]
        pairs = list(combinations(said, 2))
        agreement[question, 0] = sum(one is not None and one == other for one, other in pairs) / len(pairs)
        right = [item.correct for item in variants if item.correct is not None]
        if right:
            worst[question, 0] = min(right)
    named = {"consistency": agreement, "worst_variant": worst}
    return {name: Measure(values, {unit: unit[0] for unit in values}) for name, values in named.items() if values}


def _traps(items: Sequence[Item]) -> dict[str, Measure]:
    """Traps declined, twins declined, and J per trap: declined minus its twin declined. Traps that share a twin are one
    question.
    """
    declined = {
        (item.item, item.variant): float(bool(item.detail["declined"])) for item in items if "declined" in item.detail
    }
    trap_of = {(item.item, item.variant): bool(item.detail["trap"]) for item in items if "declined" in item.detail}
    twin_of = {(item.item, item.variant): str(item.detail.get("twin")) for item in items}
    traps = {unit: value for unit, value in declined.items() if trap_of[unit]}
    twins = {unit: value for unit, value in declined.items() if not trap_of[unit]}
    gaps = {unit: value - twins[twin_of[unit], 0] for unit, value in traps.items() if (twin_of[unit], 0) in twins}
    found = {
        "j": Measure(gaps, {unit: twin_of[unit] for unit in gaps}),
        "abstention": Measure(traps, {unit: unit[0] for unit in traps}),
        "refusal": Measure(twins, {unit: unit[0] for unit in twins}),
    }
    return {name: measure for name, measure in found.items() if measure.values}


def _number(item: Item, key: str) -> float | None:
    value = item.detail.get(key)
    return float(value) if isinstance(value, int | float) else None


def _list(item: Item, key: str) -> list[object]:
    value = item.detail.get(key)
    return value if isinstance(value, list) else []
