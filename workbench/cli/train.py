"""`workbench train`: start a run, and with --follow watch it to its end."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from engine import gpu, profile_file
from engine.fit.simulator import Simulator
from engine.ledger import Ledger
from workbench import settings
from workbench.cli.output import print_json, print_table, words
from workbench.cli.profile_options import add_profile


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `train` to the command line."""
    parser = commands.add_parser(
        "train",
        help="start a run",
        description="Start a run of a profile. It goes on by itself: closing the terminal does not end it.",
        epilog="With --follow: exit 0 when it finished, 1 when it was stopped, 2 when it failed.",
    )
    add_profile(parser)
    parser.add_argument("--name", help="what to call the run (default: as the profile's file)")
    parser.add_argument("--queue", action="store_true", help="wait until the GPU is free, then start")
    parser.add_argument("--follow", action="store_true", help="show progress until the run ends; Ctrl-C detaches")
    parser.add_argument(
        "--json", action="store_true", help="print uid, name and state as JSON; with --follow at the end"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Start the run that the options describe."""
    from engine import launch

    launch.check_installed()
    path = profile_file.find(options.profile)
    profile = profile_file.read(path, options.set)
    runs_folder = settings.load().runs_folder
    ledger = Ledger.open(options.ledger)
    if profile.hardware.device != "cpu" and gpu.gpus():
        words("Simulating a step, to see what fits ...")
    with closing(Simulator()) as simulator:
        resolved = launch.resolved(ledger, profile, simulator)
    for note in resolved.notes:
        words(f"Note: {note}.")
    started = launch.start_resolved(
        ledger, resolved, name=options.name or _name(path), runs_folder=runs_folder, queue=options.queue
    )
    shown = {"uid": started.uid, "name": started.name, "state": started.state}
    if options.follow:
        from workbench.cli.follow import follow

        ending = follow(ledger, started)
        if options.json:
            print_json({**shown, "state": ending.state})
        return ending.code
    if options.json:
        print_json(shown)
    else:
        print_table(tuple(shown), [tuple(map(str, shown.values()))])
        words(f"Watch it: workbench, or workbench runs follow {started.name}")
    return 0


def _name(path: Path) -> str:
    return "run" if path.stem == "profile" else path.stem
