"""`workbench runs list`, `show` and `diff`: what the ledger knows."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from typing import Final

import tomlkit

from engine.errors import Problem
from engine.ledger import Ledger, checkpoints, jobs, queue, runs
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
        print_json([{**_brief(run, metrics.get(run.id, {})), "queue": places.get(run.id)} for run in found])
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


def _brief(run: runs.Run, metrics: Metrics) -> dict[str, object]:
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


def show(options: argparse.Namespace) -> int:
    """Everything about one run."""
    ledger = existing_ledger(options.ledger)
    run = runs.find(ledger, options.runs[0])
    document = runs.document(ledger, run)
    if options.profile:
        print(document.profile, end="")
        return 0
    whole = _whole(ledger, run, document)
    if options.json:
        print_json(whole)
    else:
        _print_run(ledger, run, document)
    return 0


def _whole(ledger: Ledger, run: runs.Run, document: runs.Document) -> dict[str, object]:
    kept = (
        "uid",
        "kind",
        "state",
        "cause",
        "message",
        "pid",
        "host",
        "created",
        "started",
        "ended",
        "heartbeat",
        "log",
    )
    return {
        **_brief(run, runs.summary(ledger, run)),
        "folder": run.folder,
        "parent": run.parent,
        "profile": tomlkit.parse(document.profile).unwrap(),
        "environment": document.environment,
        "fingerprints": {key: document.fingerprints.get(key) for key in ("data", "base", "result")}
        | document.fingerprints,
        "jobs": [
            {key: getattr(job, key) for key in kept} | {"state": jobs.seen_state(job)}
            for job in jobs.of_run(ledger, run.id)
        ],
        "checkpoints": [
            {**vars(checkpoint), "path": str(checkpoint.path)} for checkpoint in checkpoints.of_run(ledger, run.id)
        ],
        "memory": {"predicted_mib": run.predicted_mib, "measured_mib": run.measured_mib},
        "result": {"kind": run.result_kind, "path": run.result},
    }


def _print_run(ledger: Ledger, run: runs.Run, document: runs.Document) -> None:
    settings = runs.settings(ledger, run)
    job = jobs.newest_training(ledger, run.id)
    message = job.message if job else ""
    method = f"{settings.get('method.name')} {settings.get('model.quantization')}".replace(" none", "")
    memory = f"predicted {_mib(run.predicted_mib)}, measured {_mib(run.measured_mib)}"
    facts: list[tuple[str, Cell]] = [
        ("name", run.name),
        ("uid", run.uid),
        ("state", state_word(run.state, run.cause)),
        *(("message" if number == 0 else "", line) for number, line in enumerate(message.splitlines())),
        ("step", f"{run.step} of {run.steps or '?'}"),
        ("created", time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))),
        ("base", str(settings.get("model.base"))),
        ("method", method),
        ("data", ", ".join(str(value) for key, value in settings.items() if key.endswith(".source"))),
        ("memory", memory if run.predicted_mib or run.measured_mib else ""),
        ("result", f"{run.result_kind}: {run.result}" if run.result else ""),
        ("folder", str(run.folder)),
        ("parent", run.parent),
        ("note", run.note),
    ]
    print_table(("", ""), [fact for fact in facts if fact[1]], titled=False)
    metrics = runs.summary(ledger, run)
    if metrics:
        print()
        rows = [(key, summary.last, *_best(key, summary)) for key, summary in sorted(metrics.items())]
        print_table(("metric", "last", "best", "at step"), rows, right=("last", "best", "at step"))
    saved = checkpoints.of_run(ledger, run.id)
    if saved:
        print()
        print_table(
            ("checkpoint", "MiB", "validation", ""),
            [(c.step, f"{c.bytes / 2**20:.1f}", figure(c.validation), "best" if c.best else "") for c in saved],
            right=("MiB", "validation"),
        )


def _best(key: str, summary: runs.Summary) -> tuple[float | None, int | None]:
    """The best value and its step; nothing for what is neither better high nor low, such as the learning rate."""
    judged = key.endswith("/loss") or key in runs.HIGHER_IS_BETTER
    return (summary.best, summary.best_step) if judged else (None, None)


def _mib(value: float | None) -> str:
    return "–" if value is None else f"{value / 1024:.1f} GiB" if value >= 1024 else f"{value:.0f} MiB"


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
