"""Evaluations in the ledger: a model on a suite under stated conditions, and every item behind the scores."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.ledger.store import Ledger, Value, table


@dataclass(frozen=True)
class Evaluation:
    """A model on a suite.

    `run` is None for a base model; `model` is the fingerprint of what was evaluated; `finished` is None while items are
    being added.
    """

    id: int
    uid: str
    run: int | None
    model: str
    model_name: str
    suite: str
    suite_fingerprint: str
    conditions: str
    created: float
    finished: float | None
    n: int
    scores: dict[str, float]


@dataclass(frozen=True)
class Item:
    """One answer.

    `variant` 0 is the item itself, others its paraphrases; `extracted` None means unparsed; `correct` None: there is no right
    answer.
    """

    item: str
    variant: int
    prompt: str
    answer: str
    extracted: str | None
    gold: str | None
    correct: float | None
    detail: dict[str, object]


_COLUMNS = "id, uid, run, model, model_name, suite, suite_fingerprint, conditions, created, finished, n, scores"


def begin(
    ledger: Ledger, *, run: int | None, model: str, model_name: str, suite: str, suite_fingerprint: str, conditions: str
) -> Evaluation:
    """The evaluation of this model on this suite under these conditions.

    The one that stands (finished, or to be gone on with), else a new one. Two runs with the same bits have one each.
    """
    with ledger.transaction(durable=True) as connection:
        connection.execute(
            "INSERT OR IGNORE INTO evaluation"
            " (uid, run, model, model_name, suite, suite_fingerprint, conditions, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (uuid.uuid4().hex[:12], run, model, model_name, suite, suite_fingerprint, conditions, time.time()),
        )
    where = "run IS ? AND model = ? AND suite_fingerprint = ? AND conditions = ?"
    return _select(ledger, where, (run, model, suite_fingerprint, conditions))[0]


def _select(ledger: Ledger, where: str, values: tuple[Value, ...]) -> list[Evaluation]:
    rows = ledger.rows(f"SELECT {_COLUMNS} FROM evaluation WHERE {where} ORDER BY id", values)
    return [Evaluation(*(*row, json.loads(scores))) for *row, scores in rows]


def add_items(ledger: Ledger, evaluation: Evaluation, items: Iterable[Item]) -> None:
    """Commit a batch of answers, so that an evaluation that dies goes on behind them."""
    with ledger.transaction(durable=True) as connection:
        rows = [{"evaluation": evaluation.id, **vars(item), "detail": json.dumps(item.detail)} for item in items]
        table(connection, "item").upsert_all(rows, pk=("evaluation", "item", "variant"))


def finish(ledger: Ledger, evaluation: Evaluation, *, n: int, scores: Mapping[str, float]) -> None:
    """All items are there; these are the scores."""
    with ledger.transaction(durable=True) as connection:
        connection.execute(
            "UPDATE evaluation SET finished = ?, n = ?, scores = ? WHERE id = ?",
            (time.time(), n, json.dumps(dict(scores)), evaluation.id),
        )


def is_finished(ledger: Ledger, evaluation: Evaluation) -> bool:
    """Whether all items are there by now."""
    return ledger.value("SELECT finished FROM evaluation WHERE id = ?", (evaluation.id,)) is not None


def of_run(ledger: Ledger, run: int) -> list[Evaluation]:
    """A run's evaluations, oldest first, unfinished ones included."""
    return _select(ledger, "run = ?", (run,))


def counterparts(ledger: Ledger, evaluation: Evaluation) -> list[Evaluation]:
    """What this one may be compared with: finished evaluations of other models, same suite, same conditions."""
    where = "suite_fingerprint = ? AND conditions = ? AND id != ? AND finished IS NOT NULL"
    return _select(ledger, where, (evaluation.suite_fingerprint, evaluation.conditions, evaluation.id))


def items(ledger: Ledger, evaluation: Evaluation) -> list[Item]:
    """All answers of an evaluation, by item and variant."""
    rows = ledger.rows(
        "SELECT item, variant, prompt, answer, extracted, gold, correct, detail FROM item"
        " WHERE evaluation = ? ORDER BY item, variant",
        (evaluation.id,),
    )
    return [Item(*(*values, json.loads(detail))) for *values, detail in rows]
