"""`workbench runs follow` and `diff`: what a run does, and in what several differ."""

from __future__ import annotations

import argparse
from typing import Final

from engine.errors import Problem
from engine.ledger import differences, runs
from engine.ledger.differences import Difference
from workbench.cli.existing import existing_ledger
from workbench.cli.output import figure, print_json, print_table, words

WIDEST: Final = 40  # cells of a setting in a table


def watch(options: argparse.Namespace) -> int:
    """Follow a run that is at work, or say how it ended."""
    from workbench.cli.follow import follow

    ledger = existing_ledger(options.ledger)
    run = runs.find(ledger, options.runs[0])
    ending = follow(ledger, run)
    if options.json:
        print_json({"uid": run.uid, "name": run.name, "state": ending.state})
    return ending.code


def diff(options: argparse.Namespace) -> int:
    """The settings, fingerprints and versions in which two or more runs differ."""
    ledger = existing_ledger(options.ledger)
    chosen = [runs.find(ledger, name) for name in options.runs]
    if len(chosen) < 2:
        raise Problem("One run differs from nothing", do=f"Name another: workbench runs diff {chosen[0].name} OTHER")
    found = differences.between(ledger, chosen)
    differing = [(_key(each), each.values) for each in found if each.topic != "best"]
    best = [(each.key, each.values) for each in found if each.topic == "best"]
    if options.json:
        print_json(
            {
                "runs": [run.uid for run in chosen],
                "differences": [{"key": key, "values": values} for key, values in differing],
                "best": [{"key": key, "values": values} for key, values in best],
            }
        )
        return 0
    if not differing:
        words("They have the same settings, data, versions and machine.")
    figured = [
        (f"best {key}", *(figure(value) if isinstance(value, float) else None for value in values))
        for key, values in best
    ]
    rows = [*figured, *((key, *map(_shown, values)) for key, values in differing)]
    if rows:
        print_table(("", *(run.name for run in chosen)), rows)
    return 0


def _key(each: Difference) -> str:
    return each.key if each.topic == "setting" else f"{each.topic}.{each.key}"


def _shown(value: object) -> str:
    """A setting in a cell: what is long is cut in the middle, where paths and fingerprints say least."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if value is None or isinstance(value, bool):
        text = "–" if value is None else text.lower()
    return text if len(text) <= WIDEST else f"{text[: WIDEST // 3]}…{text[-(WIDEST - WIDEST // 3 - 1) :]}"
