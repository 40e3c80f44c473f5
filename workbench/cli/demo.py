"""`workbench demo`: the whole way - base model, data, training, evaluation, comparison - on this machine, in minutes."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from engine.evaluate.behind import behind
from engine.evaluate.compare import Comparison, compare
from engine.ledger import Ledger, runs
from engine.ledger.runs import Run
from engine.ledger.states import ENDED
from workbench import settings
from workbench.cli import compare as comparison_table
from workbench.cli.evaluate import wait
from workbench.cli.follow import DETACHED, follow
from workbench.cli.output import print_json, print_table, printable, words
from workbench.demo import story
from workbench.demo.story import Stage

FORGOTTEN: Final = 5  # answers shown


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo` to the command line."""
    parser = commands.add_parser(
        "demo",
        help="make a small model, tune it and compare, on this machine",
        description="Make a small base model and a data set on this machine, fine-tune, evaluate and compare: no GPU, no network, "
        "about two minutes. On a terminal the application opens on the live run.",
        epilog="Every time a new tuned run; the base model is kept. Exit 0 when the comparison stands, 2 when it could not be made.",
    )
    parser.add_argument("--headless", action="store_true", help="progress and the final table, no application")
    parser.add_argument("--json", action="store_true", help="the final comparison as JSON; headless")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demonstration, in the application where there is a terminal."""
    runs_folder = settings.load().runs_folder
    if sys.stdin.isatty() and sys.stdout.isatty() and not (options.headless or options.json):
        from workbench.demo import live

        return live.run(options.ledger)
    ledger = Ledger.open(options.ledger)
    try:
        stage = None
        for number, stage in enumerate(story.stages(ledger, runs_folder), 1):
            words(f"{number}. {stage.title}")
            if code := _watched(ledger, stage):
                return code
    except KeyboardInterrupt:
        words("\nDetached. Go on with: workbench demo")
        return DETACHED
    assert stage is not None
    tuned = runs.find(ledger, stage.run.uid)
    comparison = compare(ledger, [tuned])
    if options.json:
        print_json(comparison_table.as_json(comparison))
    else:
        _tell(ledger, tuned, comparison)
    return 0


def _watched(ledger: Ledger, stage: Stage) -> int:
    """Tell of a stage until it is over; 0 when it came to its end, else the exit code. What went wrong is said."""
    if stage.job.kind == "train":
        ending = follow(ledger, stage.run)
        if ending.code:
            words("Go on with the demonstration: workbench demo")
        return 2 if ending.state in ENDED and ending.code else ending.code
    try:
        wait(ledger, stage.job)
    except KeyboardInterrupt:
        words(f"\nDetached: the evaluation goes on.\nAfterwards: workbench compare {stage.run.name}")
        return DETACHED
    return 0  # whether it finished, the story itself sees to


def _tell(ledger: Ledger, tuned: Run, comparison: Comparison) -> None:
    """The verdict, the rows that carry it, and some of what was forgotten."""
    print()
    for line in (comparison.headline, *comparison.lines):
        print(printable(line))
    print()
    comparison_table.print_rows(comparison, only_main=True)
    lost = [
        one
        for row in comparison.rows
        if row.metric == "retained"
        for one in behind(ledger, row)
        if one.outcome == "lost"
    ]
    if lost:
        some = lost[:: -(-len(lost) // FORGOTTEN)]  # evenly spaced: neighbours are about the same kind of thing
        print(f"\nForgotten, {len(some)} of {len(lost)}:")
        print_table(("question", "base", "tuned"), [(one.prompt, one.base.text, one.tuned.text) for one in some])
    words(
        f"\nAll figures: workbench compare {tuned.name}   Look around: workbench   The run: workbench runs show {tuned.name}"
    )
