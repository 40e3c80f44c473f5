"""`workbench data`: what is in the data and what is wrong with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import profile_file
from engine.data import hub_source
from engine.data.finding import Finding
from engine.data.mixing import Part
from engine.data.opened import Opened, asked, look, open_data, with_base
from engine.data.report import DataReport
from engine.errors import Problem
from workbench.cli.output import print_json, print_table, printable, words

SHOWN_ROWS = 8  # row numbers of a finding that are printed


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `data` to the command line."""
    parser = commands.add_parser(
        "data",
        help="the data report: columns, lengths, findings, duplicates",
        description="Look at all rows of a data set: columns, lengths, what is wrong, what is there twice.",
        epilog="Exit codes: 0 clean (warnings apart); 1 an error was found that would spoil training; 2 could not run.",
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a file (.jsonl, .json, .csv, .tsv, .parquet, .txt), folder, glob, hub id, or a profile (.toml)",
    )
    parser.add_argument("--profile", metavar="FILE", help="map, render and split as this profile says")
    parser.add_argument("--model", metavar="BASE", help="count in the tokens of this base model: a folder or a hub id")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report; 1 when an error was found."""
    settings = profile_file.read(profile_file.find(options.profile)) if options.profile else None
    for data in asked(options.path, settings).data:
        if hub_source.is_hub_id(data.source) and not hub_source.copy_path(data).is_file():
            words(f"Downloading {data.source} ...")
            hub_source.download_apart(data)
    looked = look(_seen(open_data(options.path, settings), options.model), _progress("rows"), lambda: False)
    parts = dict(zip(("train", "validation", "test"), looked.parts, strict=True)) if looked.parts else None
    if options.json:
        told = {name: getattr(looked.report, name) for name in looked.report.__dataclass_fields__}
        print_json({**told, "findings": looked.findings, "split": parts, "mixture": looked.mixture})
    else:
        _print(options.path, looked.report, looked.findings, parts)
        _print_mixture(looked.mixture)
    errors = [finding for finding in looked.findings if finding.severity == "error"]
    words(_verdict(looked.findings, errors))
    return 1 if errors else 0


def _seen(opened: Opened, model: str | None) -> Opened:
    """The data as the model that was asked for sees them, else the profile's; as they are where that cannot be had."""
    try:
        seen = with_base(opened, model or "")
    except Problem as problem:
        if model is not None or problem.code not in ("network", "gated"):
            raise
        words(f"{problem}\nThe data are looked at without it.")
        seen = opened
    if seen.settings.template != opened.settings.template:
        words(f"{model} has no chat template: rendered as plain.")
    if seen.renderer is None:
        words("Without a base model (--model) lengths are in characters, and nothing is known of templates and EOS.")
    return seen


def _progress(what: str) -> Callable[[int, int], None]:
    """Rows done on one line of stderr, where that is a terminal."""
    shown = sys.stderr.isatty()

    def tell(done: int, total: int) -> None:
        if shown and (done % 500 == 0 or done == total):
            end = "\r\x1b[K" if done == total else ""
            print(f"\r{done:,} of {total:,} {what}{end}", end="", file=sys.stderr, flush=True)

    return tell


def _print(path: str, found: DataReport, findings: Sequence[Finding], parts: dict[str, int] | None) -> None:
    lengths = found.lengths
    print(f"{printable(Path(path).name)}  {found.rows:,} rows  {found.shape}  sha256 {found.fingerprint[:12]}")
    if parts:
        print("split  " + "  ".join(f"{name} {count:,}" for name, count in parts.items()))
    print()
    print_table(
        ["column", "part", "types", "missing"],
        [
            [
                column.name,
                column.part,
                ", ".join(f"{kind} {count:,}" for kind, count in column.types.items()),
                column.missing,
            ]
            for column in found.columns
        ],
    )
    print()
    print_table(
        [lengths.unit, "min", "median", "p95", "p99", "max", "all", "supervised"],
        [["", *map(_thousands, (lengths.minimum, lengths.median, lengths.p95, lengths.p99, lengths.maximum)),
          _thousands(lengths.total), _thousands(lengths.supervised) if lengths.unit == "tokens" else None]],
        right=["min", "median", "p95", "p99", "max", "all", "supervised"],
    )  # fmt: skip
    if lengths.limit:
        print(f"over {lengths.limit:,} tokens: {lengths.over:,} rows")
    if found.labels:
        total = sum(found.labels.values())
        print(
            "labels  " + "  ".join(f"{label} {count:,} ({count / total:.1%})" for label, count in found.labels.items())
        )
    print()
    _print_findings(findings)


def _print_mixture(mixture: Sequence[Part]) -> None:
    """How often the rows of each source are seen, where there are several or one is weighted."""
    if len(mixture) > 1 or any(part.weight != 1 for part in mixture):
        print()
        print_table(
            ["source", "weight", "training rows", "seen an epoch", "share"],
            [[part.source, f"{part.weight:g}", _thousands(part.rows), _thousands(part.seen), f"{part.share:.1%}"] for part in mixture],
            right=["weight", "training rows", "seen an epoch", "share"],
        )  # fmt: skip


def _thousands(number: int) -> str:
    return f"{number:,}"


def _print_findings(findings: Sequence[Finding]) -> None:
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    marks = {"error": "✗", "warning": "!", "info": "·"} if unicode else {"error": "x", "warning": "!", "info": "."}
    for finding in findings:
        rows = ", ".join(map(str, finding.rows[:SHOWN_ROWS])) + (", ..." if finding.count > SHOWN_ROWS else "")
        print(f"{marks[finding.severity]} {printable(finding.sentence)}" + (f": {rows}" if finding.rows else ""))


def _verdict(findings: Sequence[Finding], errors: Sequence[Finding]) -> str:
    if errors:
        return (
            f"{len(errors)} kinds of errors would spoil training."
            if len(errors) > 1
            else "An error would spoil training."
        )
    warnings = sum(finding.severity == "warning" for finding in findings)
    return f"No errors; {warnings} kinds of warnings." if warnings else "Clean."
