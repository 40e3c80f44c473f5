"""`workbench data`: what is in the data and what is wrong with it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine import profile as profiles
from engine import profile_file
from engine.data import hub_source
from engine.data.division import divide
from engine.data.finding import Finding, worst_first
from engine.data.mapped import MappedSource, open_mapped
from engine.data.prepare import auto_max_tokens
from engine.data.render import Renderer
from engine.data.report import DataReport, report
from engine.data.tokenizer import load_tokenizer
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
        "path", metavar="PATH", help="a file (.jsonl, .json, .csv, .tsv, .parquet), folder, glob or hub id"
    )
    parser.add_argument("--profile", metavar="FILE", help="map, render and split as this profile says")
    parser.add_argument("--model", metavar="BASE", help="count in the tokens of this base model: a folder or a hub id")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the report; 1 when an error was found."""
    settings = profile_file.read(profile_file.find(options.profile)) if options.profile else None
    data = _data(options.path, settings)
    template = settings.template if settings else profiles.Template()
    sources = [_open(data, template)]
    renderer, limit = _renderer(options.model, settings, data)
    if renderer is None:
        words("Without a base model (--model) lengths are in characters, and nothing is known of templates and EOS.")
    found = report(sources, renderer, limit, progress=_progress("rows"))
    parts, more = _split(settings, data, found)
    if options.json:
        told = {name: getattr(found, name) for name in found.__dataclass_fields__}
        print_json({**told, "findings": more, "split": parts})
    else:
        _print(options.path, found, more, parts)
    errors = [finding for finding in more if finding.severity == "error"]
    words(_verdict(more, errors))
    return 1 if errors else 0


def _data(path: str, settings: profiles.Profile | None) -> profiles.Data:
    """The source that was asked for, mapped as the profile maps it where the profile names it, or has only one."""
    if settings is None:
        return profiles.Data(source=path)
    same = [data for data in settings.data if Path(data.source).name == Path(path).name]
    chosen = (same or settings.data)[0]
    return chosen.model_copy(update={"source": path if hub_source.is_hub_id(path) else str(Path(path).expanduser())})


def _open(data: profiles.Data, template: profiles.Template) -> MappedSource:
    if hub_source.is_hub_id(data.source) and not hub_source.copy_path(data).is_file():
        words(f"Downloading {data.source} ...")
        hub_source.download_apart(data)
    return open_mapped(data, template)


def _renderer(
    model: str | None, settings: profiles.Profile | None, data: profiles.Data
) -> tuple[Renderer | None, int | None]:
    """How rows are rendered and the most tokens that they may have; nothing without a model."""
    if settings is None:
        if model is None:
            return None, None
        settings = profiles.Profile(model=profiles.Model(base=model), data=(data,))
    elif model is not None:
        settings = settings.model_copy(update={"model": profiles.Model(base=model)})
    try:
        tokenizer = load_tokenizer(settings.model.base, settings.model.revision)
    except Problem as problem:
        if model is not None or problem.code not in ("network", "gated"):
            raise
        words(f"{problem}\nThe data are looked at without it.")
        return None, None
    template = settings.template
    if template.name == "chat" and tokenizer.chat_template is None and model is not None:
        words(f"{model} has no chat template: rendered as plain.")
        template = template.model_copy(update={"name": "plain"})
    renderer = Renderer(tokenizer, template, settings.training.loss_on)
    if template.max_tokens != "auto":
        return renderer, template.max_tokens
    try:
        return renderer, auto_max_tokens(settings.model_copy(update={"data": (data,), "template": template}), tokenizer)
    except Problem:  # a broken row, which the report is there to find
        return renderer, tokenizer.max_length


def _split(
    settings: profiles.Profile | None, data: profiles.Data, found: DataReport
) -> tuple[dict[str, int] | None, tuple[Finding, ...]]:
    """Rows of each part and what dividing found, with a profile whose data can be divided."""
    if settings is None or any(
        finding.severity == "error" and finding.id == "broken_row" for finding in found.findings
    ):
        return None, found.findings
    division = divide(settings.model_copy(update={"data": (data,)}))
    parts = division.parts
    counts = {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)}
    return counts, worst_first((*found.findings, *division.findings))


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
