"""`workbench runs export`: what the ledger knows of runs, as a file for other programs or another ledger."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.ledger import runs
from engine.ledger.exchange import exporting
from screens.widgets import figures
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, progress, words


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where to, and in which form."""
    forms = "; ".join(f"{suffix}: {what}" for suffix, what in exporting.FORMS.items())
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help=forms)
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")


def export(options: argparse.Namespace) -> int:
    """Write the runs to the file `--to`, in the form that its name says."""
    to: Path = options.to.expanduser()
    ledger = existing_ledger(options.ledger)
    chosen = list({run.uid: run for run in (runs.find(ledger, name) for name in options.runs)}.values())
    size = exporting.write(ledger, chosen, to, replace=options.force, progress=progress("runs"))
    if options.json:
        print_json({"path": str(to.absolute()), "runs": [run.uid for run in chosen], "bytes": size})
    else:
        words(f"{', '.join(run.name for run in chosen)}: {figures.size(size)} in {to}")
    return 0
