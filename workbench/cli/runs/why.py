"""`workbench runs why`: which setting mattered for a metric."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from engine.errors import Problem
from engine.ledger import evidence, facts, forest, importance, verdict
from engine.ledger.best import higher_is_better
from engine.ledger.evidence import Which
from engine.ledger.importance import Setting
from engine.ledger.selecting import selected
from workbench.cli.existing import existing_ledger
from workbench.cli.output import Cell, print_json, print_table, printable, words


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of `why`."""
    parser.add_argument("--filter", metavar="FILTER", help="only runs that pass it (see: list)")
    parser.add_argument(
        "--metric",
        metavar="METRIC",
        default="best",
        help="best or loss (of validation), or a metric's key for its last value, with .best behind it for its best",
    )


def why(options: argparse.Namespace) -> int:
    """Settings by how much they had to do with the metric, and what is to be said against that; 1 where nothing can be told."""
    ledger = existing_ledger(options.ledger)
    metric, which = _asked(options.metric)
    rows = selected(ledger, options.filter or "").rows
    found = evidence.gathered(ledger, rows, metric, which)
    study = importance.study(found.settings, found.values, higher_is_better=higher_is_better(metric))
    study = forest.grown(study)
    settings = verdict.strongest(study)
    answer = verdict.answer(metric, which, study)
    warnings = verdict.warnings(found, study)
    if options.json:
        print_json(
            {
                "metric": metric,
                "which": which,
                "answer": answer,
                "warnings": warnings,
                "runs": study.runs,
                "least": study.least,
                "needed": study.needed,
                "explained": study.explained,
                "settings": [
                    {**asdict(each), "clear": each.clear, "matters": verdict.matters(study, each)} for each in settings
                ],
                "left_out": {
                    "constant": study.constant,
                    "own": study.own,
                    "without": found.without,
                    "others": found.others,
                },
            }
        )
    else:
        print(printable(answer))
        if settings:
            titles = ("setting", "more is", "corr.", "95 %", "p", "forest", "best with")
            print_table(titles, [_cells(each) for each in settings], right=("corr.", "95 %", "p", "forest"))
        notes = [*warnings, verdict.forest_words(study) if settings else "", verdict.left_out(found, study)]
        for note in filter(None, notes):
            words(note)
    return 0 if any(verdict.matters(study, each) for each in settings) else 1


def _asked(name: str) -> tuple[str, Which]:
    """The metric's key and which of its values.

    Raises:
        Problem: it is none, or its smoothed value.
    """
    match facts.metric(name):
        case (key, "best"):
            return key, "best"
        case (key, "last"):
            return key, "last"
    raise Problem(
        f"{name} is no metric whose best or last value could be asked about",
        do="Ask about best, loss, or a key such as train/loss or train/loss.best.",
        code="metric",
    )


def _cells(setting: Setting) -> tuple[Cell, ...]:
    rho, low, high = setting.correlation, setting.low, setting.high
    direction = "choice" if rho is None else "unclear" if not setting.clear else "better" if rho > 0 else "worse"
    between = "" if low is None or high is None else f"{verdict.hundredths(low)} to {verdict.hundredths(high)}"
    shown = verdict.hundredths(rho if rho is not None else setting.strength)
    share = "–" if setting.share is None else f"{setting.share:.0%}"
    best = " to ".join(
        dict.fromkeys(f"{value:.6g}" if isinstance(value, float) else str(value) for value in setting.best)
    )
    return (" = ".join(setting.names), direction, shown, between, f"{setting.p:.2g}", share, best)
