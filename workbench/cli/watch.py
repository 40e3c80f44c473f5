"""`workbench watch`: follow a training that Workbench did not start, and keep it in the ledger as a run."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final

from engine.errors import Problem
from engine.ledger import Ledger, events
from engine.ledger.runs import Run
from engine.ledger.states import ENDED, State
from engine.watching.watch import Watch
from screens.widgets import figures
from workbench import settings
from workbench.cli.follow import CODES, DETACHED, PROGRESS_EVERY, event_line, progress_line
from workbench.cli.output import print_json, words

LOOK_EVERY: Final = 2.0  # seconds


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `watch` to the command line."""
    parser = commands.add_parser(
        "watch",
        help="follow somebody's own Trainer, TRL or axolotl run",
        description="Follow a training that Workbench did not start, from what it writes into its folder: TensorBoard event files, wandb "
        "offline runs, Trainer's checkpoints, and its output. It is a run like any other then, except that it takes no orders. "
        "Ended and started again, the watch goes on where it was.",
        epilog="Exit 0 when it has finished, 1 when it was stopped, 2 when it failed or its process is gone.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="what it trains into (output_dir)")
    parser.add_argument(
        "--pid",
        type=int,
        metavar="N",
        help="its process (default: the one that has files open there, if it is to be seen)",
    )
    parser.add_argument("--name", default="", help="what to call the run (default: as the folder)")
    parser.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help="what it prints to (default: its output, if that is a file; *.log there)",
    )
    parser.add_argument("--once", action="store_true", help="look once, then end")
    parser.add_argument("--json", action="store_true", help="print uid, name, state, step and steps as JSON at the end")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Watch until it ends, or look once."""
    runs_folder = settings.load().runs_folder
    ledger = Ledger.open(options.ledger)
    watch = Watch(
        ledger, options.folder, runs_folder=runs_folder, pid=options.pid, name=options.name, output=options.log
    )
    try:
        found = _once(watch) if options.once else _until_it_ends(ledger, watch)
    except KeyboardInterrupt:
        words(f"\nNo longer watched; it goes on by itself. Watch it again: workbench watch {options.folder}")
        return DETACHED
    finally:
        watch.close()
    if options.json:
        shown = ("uid", "name", "state", "step", "steps")
        print_json({key: getattr(found, key) for key in shown})
    return 0 if found.state not in ENDED else CODES[found.state]


def _once(watch: Watch) -> Run:
    found = watch.look()
    if found is None and watch.process is not None:
        raise Problem(
            f"Process {watch.process.pid} has told nothing of its training yet",
            "What lies there may be an older run's.",
            "Look again in a moment, or without --once.",
            code="watch",
        )
    if found is None:
        raise Problem(
            f"There is nothing to follow in {watch.folder}",
            "It holds no event files, no wandb run, no checkpoint and no output, and no program writes there.",
            "Name the folder that is trained into, and the process with --pid.",
            code="watch",
        )
    _tell_about(watch, found)
    words(
        f"{found.name} ({found.uid}) is {found.state} at step {found.step}{f' of {found.steps}' if found.steps else ''}."
    )
    return found


def _until_it_ends(ledger: Ledger, watch: Watch) -> Run:
    """Look every few seconds. A ledger or a file that cannot be used for a moment is told and tried again."""
    told: set[str] = set()
    known, last_event, line, line_at = "", 0, "", 0.0
    while True:
        try:
            found = watch.look()
        except Problem as problem:
            found = watch.run
            _say(str(problem), told)
        if found is None:
            who = (
                f"Process {watch.process.pid} has told nothing of its training"
                if watch.process
                else "There is nothing to follow"
            )
            _say(f"{who} in {watch.folder} yet: waiting. Ctrl-C ends the watch.", told)
        else:
            if found.uid != known:
                known, last_event = found.uid, 0
                words(f"{found.name} ({found.uid}) is {found.state}. Ctrl-C ends the watch; it goes on by itself.")
                _tell_about(watch, found)
            for event in events.of_run(ledger, found.id, after=last_event, limit=20):
                last_event = event.id
                words(event_line(event))
            if found.state in ENDED:
                words(_verdict(found, watch))
                return found
            now = progress_line(ledger, found)
            if now != line and time.monotonic() - line_at >= PROGRESS_EVERY:
                words(f"{figures.clock_with_seconds(time.time())}   {now}")
                line, line_at = now, time.monotonic()
        for trouble in watch.heard.troubles:
            _say(trouble, told)
        time.sleep(LOOK_EVERY)


def _say(sentence: str, told: set[str]) -> None:
    """Say it once."""
    if sentence not in told:
        told.add(sentence)
        words(sentence)


def _tell_about(watch: Watch, found: Run) -> None:
    """Who it is, and what is not looked at."""
    if watch.process is not None:
        words(f"Its process is {watch.process.pid}: {watch.process.command}")
    elif watch.several:
        pids = ", ".join(str(each.pid) for each in watch.several)
        words(f"Several programs work in {watch.folder}: {pids}. Name the one that trains with --pid.")
    elif found.state not in ENDED:
        words("Its process is not to be seen from here: it counts as running while its files grow. Name it with --pid.")
    if watch.heard.others:
        words(f"Earlier runs lie there too. To have them: workbench import {watch.folder}")


def _verdict(found: Run, watch: Watch) -> str:
    where = f"at step {found.step}{f' of {found.steps}' if found.steps else ''}"
    if found.state is State.FINISHED:
        return f"{found.name} finished {where}. What it made is in {watch.folder}"
    if found.state is State.LOST:
        return f"{found.name} is lost {where}: its process is gone and left no word.\nStart it again as you did, and watch it again."
    if found.state is State.STOPPED:
        return f"{found.name} was stopped {where}."
    return f"{found.name} failed {where}{f' ({found.cause})' if found.cause else ''}."
