"""`workbench doctor`: what is installed, and what would go wrong."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterator

from engine.errors import Problem
from workbench import settings
from workbench.checks import Check
from workbench.cli.output import print_json, printable, shown, words


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `doctor` to the command line."""
    parser = commands.add_parser(
        "doctor",
        help="what is installed, GPUs, storage, what would end a run",
        description="Look at this machine: what is installed, GPUs, drivers, storage, what would end a run.",
        epilog="Exit codes: 0 all is well; 1 something was found.",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print every check as it is done; 1 when one of them found something."""
    done = []
    for check in _checks(options):
        done.append(check)
        if not options.json:
            _print(check)
    found = [check for check in done if not check.ok]
    if options.json:
        print_json({"checks": done})
    else:
        words(f"{len(found)} of {len(done)} checks found something." if found else "All is well.")
    return 1 if found else 0


def _checks(options: argparse.Namespace) -> Iterator[Check]:
    from workbench.checks import gpus, libraries, session, storage

    yield from libraries.check_all()
    yield from gpus.check_all(options.ledger)
    try:
        runs_folder = settings.load().runs_folder
    except Problem as problem:
        yield Check("settings", False, problem.what, problem.do)
        runs_folder = settings.Settings().runs_folder
    yield from storage.check_all(options.ledger, runs_folder)
    yield from session.check_all(options.ledger)


def _print(check: Check) -> None:
    mark = shown("✓" if check.ok else "✗")
    lines = [(f"{mark} {check.name:<18} ", printable(check.found)), (f"{'':<21}-> ", check.advice)]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    for start, text in lines:
        if text:
            print(
                textwrap.fill(
                    text, width, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False
                ),
                flush=True,
            )
