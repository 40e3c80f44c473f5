"""`workbench runs list`, `follow` and `diff`: what the ledger knows of several runs, or of one as it goes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Final

from engine.errors import Problem
from engine.ledger import Ledger, queue, runs
from screens.widgets import figures
from workbench.cli.existing import existing_ledger
from workbench.cli.output import Cell, figure, print_json, print_table, state_word, words

Metrics = Mapping[str, runs.Summary]
WIDEST: Final = 40  # cells of a setting in a table


def list_runs(options: argparse.Namespace) -> int:
    """All runs, newest first."""
    found: list[runs.Run] = []
    metrics: dict[int, dict[str, runs.Summary]] = {}
    places: dict[int, int] = {}
    if options.ledger.exists() or options.ledger_named:  # before the first run there is no ledger, which is no problem
        ledger = existing_ledger(options.ledger)
        found, metrics, places = runs.listed(ledger), runs.summaries(ledger), queue.places(ledger)
    if options.json:
        print_json([{**brief(run, metrics.get(run.id, {})), "queue": places.get(run.id)} for run in found])
        return 0
    if not found:
        words("There are no runs yet. Start one: workbench train PROFILE, or try: workbench demo")
        return 0
    titles = ("name", "state", "step", "loss", "val", "best", "ends", "age", "uid")
    rows = [_row(run, metrics.get(run.id, {}), places.get(run.id)) for run in found]
    print_table(titles, rows, right=("step", "loss", "val", "best", "ends", "age"))
    return 0


def _row(run: runs.Run, metrics: Metrics, place: int | None) -> tuple[Cell, ...]:
    loss, validation = metrics.get("train/loss"), metrics.get("validation/loss")
    return (
        run.name,
        state_word(run.state, run.cause, place),
        f"{run.step}/{run.steps}" if run.steps and run.step < run.steps else str(run.step or "–"),
        figure(loss.last if loss else None),
        figure(validation.last if validation else None),
        figure(validation.best if validation else None),
        time.strftime("%H:%M", time.localtime(run.ends)) if run.ends and run.state == "running" else None,
        figures.duration(time.time() - run.created),
        run.uid,
    )


def brief(run: runs.Run, metrics: Metrics) -> dict[str, object]:
    """The figures of a run that every list has."""
    return {
        "uid": run.uid,
        "name": run.name,
        "state": run.state,
        "cause": run.cause,
        "step": run.step,
        "steps": run.steps,
        "created": run.created,
        "ends": run.ends,
        "note": run.note,
        "metrics": {
            key: {
                "last": summary.last,
                "best": summary.best,
                "last_step": summary.last_step,
                "best_step": summary.best_step,
            }
            for key, summary in sorted(metrics.items())
        },
    }


def watch(options: argparse.Namespace) -> int:
    """Follow a run that is at work, or say how it ended."""
    from workbench.cli.follow import follow

    ledger = existing_ledger(options.ledger)
    run = runs.find(ledger, options.runs[0])
    ending = follow(ledger, run)
    if options.json:
        print_json({"uid": run.uid, "name": run.name, "state": ending.state})
    return ending.code


def diff(options: argparse.Namespace) -> int:
    """The settings, fingerprints and versions in which two or more runs differ."""
    ledger = existing_ledger(options.ledger)
    chosen = [runs.find(ledger, name) for name in options.runs]
    if len(chosen) < 2:
        raise Problem("One run differs from nothing", do=f"Name another: workbench runs diff {chosen[0].name} OTHER")
    differing = runs.different([_facts(ledger, run) for run in chosen])
    if options.json:
        print_json(
            {
                "runs": [run.uid for run in chosen],
                "differences": [{"key": key, "values": values} for key, values in differing.items()],
            }
        )
    elif not differing:
        words("They have the same settings, data and versions.")
    else:
        rows = [(key, *map(_shown, values)) for key, values in differing.items()]
        print_table(("", *(run.name for run in chosen)), rows)
    return 0


def _facts(ledger: Ledger, run: runs.Run) -> dict[str, object]:
    """What may make runs differ, by dotted key."""
    document = runs.document(ledger, run)
    facts = dict(runs.settings(ledger, run))
    facts |= {f"fingerprint.{key}": value for key, value in document.fingerprints.items() if key != "result"}
    facts |= {f"environment.{key}": value for key, value in document.environment.items()}
    return facts


def _shown(value: object) -> str:
    """A setting in a cell: what is long is cut in the middle, where paths and fingerprints say least."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if value is None or isinstance(value, bool):
        text = "–" if value is None else text.lower()
    return text if len(text) <= WIDEST else f"{text[: WIDEST // 3]}…{text[-(WIDEST - WIDEST // 3 - 1) :]}"
