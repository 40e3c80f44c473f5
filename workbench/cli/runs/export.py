"""`workbench runs export`: what the ledger knows of runs, as a file for other programs or another ledger."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from engine.ledger import summaries
from engine.ledger.exchange import exporting
from screens.widgets import figures
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, progress, words
from workbench.cli.runs import choosing

TABLES: Final = (".csv", ".parquet")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where to, and in which form."""
    forms = "; ".join(f"{suffix}: {what}" for suffix, what in exporting.FORMS.items())
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help=forms)
    choosing.add_filter(parser)
    parser.add_argument("--force", action="store_true", help="replace the file if it is there")


def export(options: argparse.Namespace) -> int:
    """Write the runs to the file `--to`, in the form that its name says."""
    to: Path = options.to.expanduser()
    ledger = existing_ledger(options.ledger)
    found = choosing.chosen(ledger, options)
    if not found:
        words("No run passes the filter: nothing was written.")
        return 1
    size = exporting.write(ledger, found, to, replace=options.force, progress=progress("runs"))
    if options.json:
        print_json({"path": str(to.absolute()), "runs": [run.uid for run in found], "bytes": size})
    else:
        words(f"{choosing.named(found)}: {figures.size(size)} in {to}")
    if to.suffix in TABLES and not any(summaries.of_run(ledger, run) for run in found):
        words("They have no metrics: the table is empty.")
    return 0
