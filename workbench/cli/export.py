"""`workbench export`: a run's result as a model that others load without Workbench, checked before it is said to be there."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from engine.ledger import events, jobs, runs
from engine.ledger.states import State
from workbench.cli.evaluate import wait
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, words

DETACHED: Final = 130
DIFFERS: Final = "differs"  # the job's cause where the export does not say what the run's result says


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export` to the command line."""
    parser = commands.add_parser(
        "export",
        help="a run's result as a whole model",
        description="Merge a run's adapter into its base, in the base's own type and never in quantised weights. The model is read back "
        "from its files and compared with the adapter - logits and the greedy text of ten of the run's prompts - before it is "
        "put in its place. The result of a full run is copied.",
        epilog="Exit 0 when it is there and checked; 1 when it does not say what the run's result says; 2 when it could not be made.",
    )
    parser.add_argument("name", metavar="RUN", help="name or uid of a run that has a result")
    parser.add_argument(
        "--format", choices=["merged"], required=True, help="merged: one model in safetensors, with its tokenizer"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where it goes (default: export/merged in the run's folder)"
    )
    parser.add_argument("--json", action="store_true", help="print path and checks as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Start the export that the options describe and wait for it."""
    from engine import launch

    ledger = existing_ledger(options.ledger)
    found = runs.find(ledger, options.name)
    job = launch.start_export(ledger, found, options.out)
    try:
        ended = wait(ledger, job, counted="")
    except KeyboardInterrupt:
        words(f"\nDetached: the export goes on. Its log is {job.log}")
        return DETACHED
    if ended.state is not State.FINISHED:
        words(f"{ended.message or f'The export is {jobs.seen_state(ended)}.'}\nIts log is {ended.log}")
        return 1 if ended.cause == DIFFERS else 2
    detail = events.of_kind(ledger, found.id, "export")[-1].detail
    if options.json:
        print_json(detail)
        return 0
    checks = detail["checks"]
    assert isinstance(checks, list)
    for check in checks:
        words(str(check["told"]))
    print(detail["path"])
    return 0
