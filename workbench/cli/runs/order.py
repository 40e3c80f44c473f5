"""`workbench runs stop`, `pause`, `continue`, `checkpoint`, `evaluate`, `rate`: orders to the job that trains a run."""

from __future__ import annotations

import argparse
import math
import time
from typing import Final

from engine.errors import Problem
from engine.ledger import Ledger, orders, runs
from engine.ledger.states import LIVE, State
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, words

PATIENCE: Final = 5.0  # seconds to wait for the job's answer; the order stands all the same


def factor(text: str) -> float:
    """A factor for the learning rate, as argparse wants it."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0 and at most 100")
    return value


def give(options: argparse.Namespace) -> int:
    """Give one order to one or more runs and wait a moment for the answers."""
    ledger = existing_ledger(options.ledger)
    chosen = [runs.find(ledger, name) for name in options.runs]
    for run in chosen:
        orders.refuse_if_foreign(ledger, run, options.verb)
        _check(run, options.verb)
    value = getattr(options, "factor", None)
    given = [(run, orders.give(ledger, run.id, options.verb, value)) for run in chosen]
    told = []
    for run, order in given:
        answered = _answer(ledger, run, order)
        told.append(
            {
                "run": run.uid,
                "name": run.name,
                "verb": options.verb,
                "value": value,
                "step": answered.step if answered else None,
                "answer": answered.answer if answered else "",
            }
        )
        where = f" at step {answered.step}" if answered and answered.step is not None else ""
        reply = f"{answered.answer or 'done'}{where}" if answered else "ordered; it takes effect at the next step"
        if not options.json:
            words(f"{run.name}: {reply}")
    if options.json:
        print_json(told)
    return 0


def _check(run: runs.Run, verb: str) -> None:
    if run.state == State.LOST:
        raise Problem(
            f"{run.name} is lost",
            f"Its process is gone, so there is nothing to {verb}.",
            f"Go on from its checkpoint: workbench runs resume {run.name}",
            code="lost",
        )
    if run.state not in LIVE:
        raise Problem(f"{run.name} is {run.state}", f"There is nothing to {verb}.", code="ended")


def _answer(ledger: Ledger, run: runs.Run, order: int) -> orders.Order | None:
    """The order once the job has answered it; None when it has not yet."""
    deadline = time.monotonic() + PATIENCE
    while any(waiting.id == order for waiting in orders.waiting(ledger, run.id)):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)
    return next((taken for taken in orders.taken(ledger, run.id) if taken.id == order), None)
