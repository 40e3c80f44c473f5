"""`workbench pull`: another machine's runs, and the results of those that are wanted here."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from engine.errors import Problem
from engine.ledger import Ledger, merging
from engine.pulling import far, fetching
from engine.pulling.far import Box
from engine.pulling.fetching import Fetched
from screens.widgets import figures
from workbench import settings
from workbench.cli.ledger import say
from workbench.cli.output import print_json, progress, words


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `pull` to the command line."""
    parser = commands.add_parser(
        "pull",
        help="bring the runs of another machine here, over ssh",
        description="Fetch a consistent copy of another machine's ledger over ssh, also while it trains, and merge it into this one. "
        "Only Python is needed there. Pulling again brings what has come since.",
        epilog="Exit codes: 0 done; 1 a run went on in two places, or a result could not be fetched; 2 could not run.",
    )
    parser.add_argument("box", metavar="BOX", help="user@box, as ssh takes it; user@box:FOLDER says its WORKBENCH_HOME")
    parser.add_argument("--results", nargs="+", default=[], metavar="RUN", help="fetch the results of these runs too")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Pull the ledger, then results one after the other; one that does not come holds up no other."""
    box = Box.parse(options.box)
    runs_folder = settings.load().runs_folder
    ledger = Ledger.open(options.ledger)
    fetched: list[Fetched] = []
    problems: list[Problem] = []
    with far.connected(box) as ssh, fetching.copy_of_ledger(ssh, box, ledger, progress("bytes")) as copy:
        try:
            merged = merging.merge(ledger, copy, progress=progress("runs"))
        except Problem as problem:  # the copy will be gone when this is read
            what = problem.what.replace(str(copy), f"The ledger of {box.host}")
            raise Problem(what, problem.why, problem.do, code=problem.code) from problem
        if not options.json:
            say(merged)
        for name in options.results:
            try:
                done = fetching.result(
                    ssh, box, ledger, copy, name, runs_folder=runs_folder, progress=progress(f"bytes of {name}")
                )
            except Problem as problem:
                problems.append(problem)
                words(str(problem))
                continue
            fetched.append(done)
            if not options.json:
                print(f"{done.run.name}: {figures.size(done.bytes)} in {done.path}{'' if done.new else ', as it was'}")
    if options.json:
        results = [{"run": each.run.uid, "path": each.path, "bytes": each.bytes, "new": each.new} for each in fetched]
        print_json({**asdict(merged), "results": results, "problems": list(map(str, problems))})
    return 1 if merged.conflicts or problems else 0
