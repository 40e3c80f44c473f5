"""Evaluations in the ledger: a model on a suite under stated conditions, and every item behind the scores."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.ledger.store import Ledger, table


@dataclass(frozen=True)
class Evaluation:
    """`run` is None for a base model; `model` is the fingerprint of what was evaluated; `finished` is None while items are being added."""

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
    """One answer. `variant` 0 is the item itself, others its paraphrases; `extracted` None means unparsed; `correct` None: no right answer."""

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
    """The evaluation of this model on this suite under these conditions: the one that stands (finished or to be gone on with) or a new one."""
    with ledger.transaction(durable=True) as connection:
        connection.execute(
            "INSERT OR IGNORE INTO evaluation (uid, run, model, model_name, suite, suite_fingerprint, conditions, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (uuid.uuid4().hex[:12], run, model, model_name, suite, suite_fingerprint, conditions, time.time()),
        )
    query = f"SELECT {_COLUMNS} FROM evaluation WHERE model = ? AND suite_fingerprint = ? AND conditions = ?"
    return _evaluation(ledger.rows(query, (model, suite_fingerprint, conditions))[0])


def _evaluation(row: tuple[object, ...]) -> Evaluation:
    return Evaluation(*row[:-1], json.loads(str(row[-1])))


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


def of_run(ledger: Ledger, run: int) -> list[Evaluation]:
    """A run's evaluations, oldest first, unfinished ones included."""
    return [
        _evaluation(row) for row in ledger.rows(f"SELECT {_COLUMNS} FROM evaluation WHERE run = ? ORDER BY id", (run,))
    ]


def counterparts(ledger: Ledger, evaluation: Evaluation) -> list[Evaluation]:
    """Finished evaluations of other models on the same suite under the same conditions: what this one may be compared with."""
    query = f"SELECT {_COLUMNS} FROM evaluation WHERE suite_fingerprint = ? AND conditions = ? AND id != ? AND finished IS NOT NULL ORDER BY id"
    return [
        _evaluation(row)
        for row in ledger.rows(query, (evaluation.suite_fingerprint, evaluation.conditions, evaluation.id))
    ]


def items(ledger: Ledger, evaluation: Evaluation) -> list[Item]:
    """All answers of an evaluation, by item and variant."""
    query = "SELECT item, variant, prompt, answer, extracted, gold, correct, detail FROM item WHERE evaluation = ? ORDER BY item, variant"
    return [Item(*row[:-1], json.loads(str(row[-1]))) for row in ledger.rows(query, (evaluation.id,))]
