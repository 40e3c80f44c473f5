"""`workbench runs resume`, `delete` and `note`: what changes a run that is not at work."""

from __future__ import annotations

import argparse
import sys

from engine import removal
from engine.errors import Problem
from engine.ledger import runs
from engine.ledger.states import State
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, print_table, words


def resume(options: argparse.Namespace) -> int:
    """Go on from the last checkpoint: of the named runs, or with --all of those whose process is gone."""
    from engine import launch

    ledger = existing_ledger(options.ledger)
    if bool(options.runs) == options.all:
        raise Problem("Which run is to be resumed?", do="Name one or more, or --all for those that are lost.")
    lost = [run for run in reversed(runs.listed(ledger)) if run.state == State.LOST]
    chosen = lost if options.all else [runs.find(ledger, name) for name in options.runs]
    if options.follow and len(chosen) > 1:
        raise Problem("--follow shows one run", f"{len(chosen)} are to be resumed.", "Leave it out, or name one.")
    resumed, failures = [], []
    for run in chosen:
        try:
            launch.resume(ledger, run, queue=options.queue)
        except Problem as problem:
            failures.append(problem)
            continue
        resumed.append(runs.find(ledger, run.uid))
    code = 0
    if options.follow and resumed:
        from workbench.cli.follow import follow

        code = follow(ledger, resumed[0]).code
        resumed = [runs.find(ledger, resumed[0].uid)]
    _print_states(resumed, as_json=options.json)
    for failure in failures:
        words(str(failure))
    if options.all and not chosen:
        words("No run is lost.")
    return 2 if failures else code


def _print_states(changed: list[runs.Run], *, as_json: bool) -> None:
    if as_json:
        print_json([{"uid": run.uid, "name": run.name, "state": run.state} for run in changed])
    elif changed:
        print_table(("uid", "name", "state"), [(run.uid, run.name, run.state) for run in changed])


def delete(options: argparse.Namespace) -> int:
    """Remove runs for good, after a question: first their rows, then their files."""
    ledger = existing_ledger(options.ledger)
    chosen = list({run.id: run for run in (runs.find(ledger, name) for name in options.runs)}.values())
    for run in chosen:  # before the first one goes
        removal.refuse_if_used(ledger, run)
    if not options.yes and not _agreed(chosen):
        words("Nothing was deleted.")
        return 1
    for run in chosen:
        removal.remove(ledger, run)
    if options.json:
        print_json([{"uid": run.uid, "name": run.name} for run in chosen])
    else:
        words(f"Deleted {', '.join(run.name for run in chosen)}.")
    return 0


def _agreed(chosen: list[runs.Run]) -> bool:
    names = ", ".join(run.name for run in chosen)
    if not sys.stdin.isatty():
        raise Problem(
            f"Nothing was deleted: {names}", "There is no terminal to ask on.", "Add --yes to delete without asking."
        )
    size = sum(removal.size(run) for run in chosen)
    question = f"Delete {names} with {size / 2**20:,.1f} MiB of files? This cannot be undone. [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def note(options: argparse.Namespace) -> int:
    """Show or set the user's own words about a run."""
    ledger = existing_ledger(options.ledger)
    run = runs.find(ledger, options.runs[0])
    if options.text is not None:
        runs.set_note(ledger, run, options.text)
        run = runs.find(ledger, run.uid)
    if options.json:
        print_json({"uid": run.uid, "name": run.name, "note": run.note})
    elif options.text is None:
        print(run.note)
    return 0
