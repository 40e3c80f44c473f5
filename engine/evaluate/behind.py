"""The answers behind a row of a comparison: what both models said to each question, lost ones first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine.evaluate.compare import ComparisonRow
from engine.evaluate.measures import METRICS, TABLE_METRICS, Unit, measures, prediction
from engine.ledger import Ledger, evaluations
from engine.ledger.evaluations import Item

Outcome = Literal["lost", "won", "same"]
ORDER: Final = {"lost": 0, "won": 1, "same": 2}
PER_QUESTION: Final = frozenset({"consistency", "worst_variant"})
COUNTED_AS: Final = {**dict.fromkeys(TABLE_METRICS, "accuracy"), "retained": "accuracy"}


@dataclass(frozen=True)
class Answer:
    """What one model answered: the part that counts, and all that it wrote. `right` is None where the metric knows no
    right.
    """

    read: str
    text: str
    right: bool | None


@dataclass(frozen=True)
class Behind:
    """One question of a row; `variant` 0 is the question itself, else one of its paraphrases."""

    item: str
    variant: int
    prompt: str
    gold: str
    base: Answer
    tuned: Answer
    outcome: Outcome


def behind(ledger: Ledger, row: ComparisonRow) -> tuple[Behind, ...]:
    """All questions of a row, lost ones first, then won, then those that stayed as they were."""
    tuned, base = (evaluations.items(ledger, one) for one in row.evaluations)
    name = COUNTED_AS.get(row.metric, row.metric)
    before, after = measures(base).get(name), measures(tuned).get(name)
    if before is None or after is None:
        return ()
    sign = 1 if METRICS[name].higher_is_better else -1
    one, other = _by_unit(base), _by_unit(tuned)
    found: list[Behind] = []
    for unit in sorted(before.values.keys() & after.values.keys() & one.keys() & other.keys()):
        if row.metric == "retained" and (unit[1] or before.values[unit] != 1):
            continue
        gap = sign * (after.values[unit] - before.values[unit])
        item = other[unit]
        found.append(
            Behind(
                item=item.item,
                variant=item.variant,
                prompt=item.prompt,
                gold=item.gold or "",
                base=_answer(name, one, unit, before.values),
                tuned=_answer(name, other, unit, after.values),
                outcome="won" if gap > 0 else "lost" if gap < 0 else "same",
            )
        )
    return tuple(sorted(found, key=lambda one: ORDER[one.outcome]))


def _by_unit(items: Sequence[Item]) -> dict[Unit, Item]:
    return {(item.item, item.variant): item for item in items}


def _answer(metric: str, items: Mapping[Unit, Item], unit: Unit, values: Mapping[Unit, float]) -> Answer:
    item = items[unit]
    right = None if values[unit] not in (0.0, 1.0) else values[unit] == 1
    read = _read(item)
    if metric in PER_QUESTION:
        read = " / ".join(_read(other) for (question, _), other in sorted(items.items()) if question == unit[0])
    elif metric == "j":
        twin = items.get((str(item.detail.get("twin")), 0))
        read = f"{read}, to its twin {_read(twin) if twin else '–'}"
    elif metric in ("unparsed", "refusal"):
        right = None if right is None else not right
    elif metric == "accuracy_written":
        read = item.extracted or "unparsed"
    return Answer(read, item.answer.strip(), right)


def _read(item: Item) -> str:
    return prediction(item) or "unparsed"
