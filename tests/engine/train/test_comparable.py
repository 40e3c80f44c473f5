"""Validation losses are held against each other only where they were measured on the same tokens, counted alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.data.tokens import Tokens
from engine.ledger import Ledger, runs
from engine.ledger.runs import Run
from engine.train.comparable import comparable
from tests.tiny import tiny_profile

ROWS = Tokens(
    np.array([1, 2, 3, 4, 5], np.int32), np.array([0, 1, 0, 1, 1], np.bool_), np.array([0, 2, 5], np.int64), ("a", "b")
)


def made(ledger: Ledger) -> Run:
    return runs.create(ledger, name="run", runs_folder=Path("/runs"), profile="", settings={})


def test_what_was_done_to_the_rows_does_not_matter_what_they_are_does(ledger: Ledger) -> None:
    run = made(ledger)

    def group(rows: Tokens = ROWS, **settings: object) -> str:
        return comparable(rows, tiny_profile(Path("base"), Path("rows"), **settings), run)

    same = [
        group(),
        group(**{"method.rank": 2, "training.learning_rate": 1e-5, "model.base": "another", "template.name": "plain"}),
        group(**{"training.beta": 0.5}),  # no part of a likelihood
        group(replace(ROWS, row_ids=("x", "y"))),
        group(replace(ROWS, ids=ROWS.ids.astype(">i4"))),  # the same numbers on another machine
    ]
    assert len(set(same)) == 1 and len(same[0]) == 64
    others = [
        group(replace(ROWS, ids=ROWS.ids + 1)),
        group(replace(ROWS, supervised=~ROWS.supervised)),
        group(replace(ROWS, starts=np.array([0, 3, 5], np.int64))),
        *(group(**{"training.objective": name}) for name in ("dpo", "orpo")),
        *(group(**{"training.objective": name, "training.beta": 0.5}) for name in ("dpo", "orpo")),
        group(**{"training.objective": "dpo", "model.base": "another"}),  # measured against another model
    ]
    assert len({*same, *others}) == 1 + len(others)


def test_a_run_without_validation_has_nothing_to_be_held_against(ledger: Ledger) -> None:
    none = Tokens(np.empty(0, np.int32), np.empty(0, np.bool_), np.zeros(1, np.int64), ())
    assert comparable(none, tiny_profile(Path("base"), Path("rows")), made(ledger)) == ""
