"""`workbench runs follow` and `diff`: what a run does, and in what several differ."""

from __future__ import annotations

import argparse
from typing import Final

from engine.errors import Problem
from engine.ledger import Ledger, runs
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, print_table, words

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
    differing = runs.different([_facts(ledger, run) for run in chosen])
    if options.json:
        print_json(
            {
                "runs": [run.uid for run in chosen],
                "differences": [{"key": key, "values": values} for key, values in differing.items()],
            }
        )
    elif not differing:
        words("They have the same settings, data and versions.")
    else:
        rows = [(key, *map(_shown, values)) for key, values in differing.items()]
        print_table(("", *(run.name for run in chosen)), rows)
    return 0


def _facts(ledger: Ledger, run: runs.Run) -> dict[str, object]:
    """What may make runs differ, by dotted key."""
    document = runs.document(ledger, run)
    facts = dict(runs.settings(ledger, run))
    facts |= {f"fingerprint.{key}": value for key, value in document.fingerprints.items() if key != "result"}
    facts |= {f"environment.{key}": value for key, value in document.environment.items()}
    return facts


def _shown(value: object) -> str:
    """A setting in a cell: what is long is cut in the middle, where paths and fingerprints say least."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if value is None or isinstance(value, bool):
        text = "–" if value is None else text.lower()
    return text if len(text) <= WIDEST else f"{text[: WIDEST // 3]}…{text[-(WIDEST - WIDEST // 3 - 1) :]}"
