"""`workbench runs delete`, `bin`, `restore` and `purge`: out of sight, back again, and gone for good."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from engine import removal
from engine.errors import Problem
from engine.filtering.comparing import duration
from engine.ledger import runs
from engine.ledger.runs import Run
from screens.widgets import figures
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, print_table, words
from workbench.cli.runs.choosing import agreed, chosen, named


def delete(options: argparse.Namespace) -> int:
    """Put runs with their files into the bin, after a question."""
    ledger = existing_ledger(options.ledger)
    found = removal.children_first(chosen(ledger, options))
    for run in found:  # before the first one goes
        removal.refuse_if_used(ledger, run, besides=found)
    if found and not options.yes:
        kept = figures.duration(removal.KEPT)
        question = f"Delete {_with_size(found)}? For {kept} it can be undone: workbench runs restore."
        if not agreed(question, named(found)):
            words("Nothing was deleted.")
            return 1
    for run in found:
        removal.remove(ledger, run)
    return _told(options, found, "Deleted")


def restore(options: argparse.Namespace) -> int:
    """Get runs back out of the bin."""
    ledger = existing_ledger(options.ledger)
    found = [runs.find(ledger, name, binned=True) for name in options.runs]
    return _told(options, [removal.restore(ledger, run) for run in {run.id: run for run in found}.values()], "Restored")


def purge(options: argparse.Namespace) -> int:
    """Remove for good what is in the bin: all, the named runs, or what has been there for long."""
    if options.runs and options.older_than is not None:
        raise Problem("--older-than is for the whole bin", "Runs are named too.", "Leave one of them out.")
    ledger = existing_ledger(options.ledger)
    found = [runs.find(ledger, name, binned=True) for name in options.runs]
    if not options.runs:
        found = removal.binned(ledger, older_than=options.older_than or 0.0)
    if found and not options.yes and not agreed(f"Remove {_with_size(found)} for good?", named(found)):
        words("Nothing was removed.")
        return 1
    return _told(options, removal.purge_runs(ledger, found), "Removed for good:")


def show_bin(options: argparse.Namespace) -> int:
    """What is in the bin."""
    ledger = existing_ledger(options.ledger)
    found = removal.binned(ledger)
    now = time.time()
    if options.json:
        print_json(
            [{"uid": run.uid, "name": run.name, "deleted": run.deleted, "bytes": removal.size(run)} for run in found]
        )
    elif not found:
        words("The bin is empty.")
    else:
        rows = [
            (run.name, figures.size(removal.size(run)), figures.duration(now - (run.deleted or now)), run.uid)
            for run in found
        ]
        print_table(("name", "size", "since", "uid"), rows, right=("size", "since"))
    return 0


def age(text: str) -> float:
    """Seconds in `7d`, for argparse."""
    seconds = duration(text)
    if seconds is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 12m, 3h, 2d or 1w")
    return seconds


def _told(options: argparse.Namespace, done: Sequence[Run], verb: str) -> int:
    if options.json:
        print_json([{"uid": run.uid, "name": run.name} for run in done])
    else:
        words(f"{verb} {named(done)}." if done else "There is nothing to do.")
    return 0


def _with_size(found: Sequence[Run]) -> str:
    return f"{named(found)} with {figures.size(sum(map(removal.size, found)))} of files"
