"""`workbench runs queue`: who waits for a turn, in which order, and another order."""

from __future__ import annotations

import argparse
import json

from engine.errors import Problem
from engine.ledger import Ledger, queue, runs
from engine.ledger.queue import End, Waiting
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, print_table, words


def queued(options: argparse.Namespace) -> int:
    """The queue, after a run was given another place in it where one is named."""
    ledger = existing_ledger(options.ledger)
    where: End | int | None = options.where
    if options.before is not None:
        where = runs.find(ledger, options.before).id
    if bool(options.runs) != (where is not None):
        raise Problem(
            "Which run is to be moved, and where to?",
            do="Name one with --first, --last or --before OTHER; without a run, the queue is shown.",
        )
    waiting = queue.waiting(ledger) if where is None else _moved(ledger, options.runs, where)
    if options.json:
        print_json([_figures(each) for each in waiting])
    elif waiting:
        rows = [(str(each.place), each.name, each.job.doing or "starting", each.uid) for each in waiting]
        print_table(("place", "name", "is", "uid"), rows, right=("place",))
    else:
        words("Nobody waits. A run does that is started with: workbench train PROFILE --queue")
    return 0


def _moved(ledger: Ledger, name: str, where: End | int) -> list[Waiting]:
    return queue.move(ledger, runs.find(ledger, name).id, where)


def _figures(each: Waiting) -> dict[str, object]:
    return {
        "place": each.place,
        "uid": each.uid,
        "name": each.name,
        "doing": each.job.doing,
        "gpus": json.loads(each.job.places),
        "created": each.job.created,
    }
