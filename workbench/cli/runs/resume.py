"""`workbench runs resume`: runs that have ended go on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from engine.errors import Problem
from engine.ledger import runs
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, print_table, words

if TYPE_CHECKING:
    from engine.launch import Resumed


def resume(options: argparse.Namespace) -> int:
    """Go on from the last checkpoint: of the named runs, or with --all of those that nobody stopped on purpose."""
    from engine import launch

    if bool(options.runs) == options.all:
        raise Problem(
            "Which run is to be resumed?", do="Name one or more, or --all for those that nobody stopped on purpose."
        )
    if options.failed and not options.all:
        raise Problem("--failed is for --all", do="A run that failed is resumed by its name.")
    if options.follow and (options.all or len(options.runs) > 1):
        raise Problem("--follow shows one run", "Several may be resumed.", "Leave it out, or name one.")
    if options.all and not options.ledger_named and not options.ledger.exists():  # a start-up script before any run
        return _print_all([], as_json=options.json)
    ledger = existing_ledger(options.ledger)
    if options.all:
        return _print_all(launch.resume_all(ledger, failed=options.failed), as_json=options.json)
    resumed, failures = [], []
    for run in [runs.find(ledger, name) for name in options.runs]:
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
    return 2 if failures else code


def _print_all(done: list[Resumed], *, as_json: bool) -> int:
    """What became of each run; 2 where one could not be resumed."""
    if as_json:
        print_json(
            [
                {
                    "uid": each.run.uid,
                    "name": each.run.name,
                    "was": each.was,
                    "state": each.run.state,
                    "problem": str(each.problem) if each.problem else None,
                }
                for each in done
            ]
        )
    elif done:
        rows = [(each.run.uid, each.run.name, each.was, each.run.state) for each in done]
        print_table(("uid", "name", "was", "is"), rows)
    else:
        words("There is nothing to resume.")
    problems = [each.problem for each in done if each.problem]
    for problem in problems:
        words(str(problem))
    return 2 if problems else 0


def _print_states(changed: list[runs.Run], *, as_json: bool) -> None:
    if as_json:
        print_json([{"uid": run.uid, "name": run.name, "state": run.state} for run in changed])
    elif changed:
        print_table(("uid", "name", "state"), [(run.uid, run.name, run.state) for run in changed])
