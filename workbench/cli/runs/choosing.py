"""Which runs a command is about - named one by one, or all that pass a filter - and the question before what cannot be undone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from engine.errors import Problem
from engine.ledger import Ledger, runs
from engine.ledger.runs import Run
from engine.ledger.selecting import selected

NAMED: Final = 8  # runs that a sentence names


def add_filter(parser: argparse.ArgumentParser) -> None:
    """`--filter`, beside names."""
    parser.add_argument("--filter", metavar="FILTER", help="all runs that pass it, archived ones too (see: list)")


def chosen(ledger: Ledger, options: argparse.Namespace) -> list[Run]:
    """The named runs and those that pass the filter, each once.

    Raises:
        Problem: there is no such run, none was asked for, or the filter is not understood.
    """
    if not options.runs and not options.filter:
        raise Problem("Which runs?", do="Name one or more, or give a --filter such as 'state=failed age>30d'.")
    found = [runs.find(ledger, name) for name in options.runs]
    if options.filter:
        found += runs.by_ids(ledger, [row.id for row in selected(ledger, options.filter, archived=True).rows])
    return list({run.id: run for run in found}.values())


def named(found: Sequence[Run]) -> str:
    """Their names for a sentence: the first few, and how many more there are."""
    names = ", ".join(run.name for run in found[:NAMED])
    return names + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")


def agreed(question: str, what: str) -> bool:
    """Whether the answer was yes.

    Raises:
        Problem: there is no terminal to ask on; nothing was done to `what`.
    """
    if not sys.stdin.isatty():
        raise Problem(f"Nothing was deleted: {what}", "There is no terminal to ask on.", "Add --yes to do it unasked.")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
