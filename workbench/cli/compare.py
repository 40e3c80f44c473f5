"""`workbench compare`: runs against their base and each other, the verdict first."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.evaluate import report
from engine.evaluate.compare import Comparison, ComparisonRow, compare
from engine.evaluate.wording import MARKS, cells
from engine.ledger import runs
from workbench.cli.existing import existing_ledger
from workbench.cli.output import print_json, print_table, printable, words

TITLES = ("verdict", "suite", "run", "against", "base", "value", "difference, 95 %", "p", "n", "sees")
RIGHT = ("base", "value", "difference, 95 %", "p", "n", "sees")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `compare` to the command line."""
    parser = commands.add_parser(
        "compare",
        help="compare runs with their base and with each other",
        description="Compare what runs and their base answered, question by question. Shares are in points of 100; "
        "'sees' is the smallest difference that as many questions would show.",
        epilog="Exit 0 when nothing that carries the verdict got worse, 1 when something did, 2 when nothing could "
        "be compared.",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="name or uid; the others are also compared with the first"
    )
    parser.add_argument("--report", metavar="FILE", type=Path, help="also write the comparison as .md or .html")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the comparison that the options describe."""
    ledger = existing_ledger(options.ledger)
    chosen = list({found.uid: found for found in (runs.find(ledger, name) for name in options.runs)}.values())
    comparison = compare(ledger, chosen)
    if options.json:
        print_json(as_json(comparison))
    elif comparison.rows:
        for line in comparison.headline.split("; "):
            print(printable(line))
        for line in comparison.lines:
            print(printable(line))
        print()
        print_rows(comparison)
    for missing in comparison.missing:
        told = f"\n  {missing.command}" if missing.command else ""
        words(f"Not compared: {missing.what}. {missing.why}{told}")
    if not comparison.rows:
        return 2
    if options.report:
        report.write(ledger, comparison, options.report)
        words(f"The report is in {options.report}")
    return 1 if comparison.worse else 0


def print_rows(comparison: Comparison, *, only_main: bool = False) -> None:
    """The table: rows that carry the verdict first, the rest (unless `only_main`) below a blank line."""
    main = [_cells(row) for row in comparison.rows if row.main]
    other = [_cells(row) for row in comparison.rows if not row.main and not only_main]
    print_table(TITLES, [*main, *([("",) * len(TITLES)] if main and other else []), *other], right=RIGHT)


def as_json(comparison: Comparison) -> dict[str, object]:
    """The comparison as its JSON keys say; what is infinite or unknown becomes null."""
    return {
        "headline": comparison.headline,
        "lines": comparison.lines,
        "worse": comparison.worse,
        "rows": [_json_row(row) for row in comparison.rows],
        "missing": [vars(missing) for missing in comparison.missing],
    }


def _json_row(row: ComparisonRow) -> dict[str, object]:
    return {key: value for key, value in vars(row).items() if key != "evaluations"}


def _cells(row: ComparisonRow) -> tuple[str, ...]:
    verdict, *others = cells(row)
    return (f"{MARKS[verdict]} {verdict}", *others)
