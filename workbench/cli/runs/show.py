"""`workbench runs show`: everything about one run."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

import tomlkit

from engine.errors import Problem
from engine.fit import recorded
from engine.ledger import Ledger, artifacts, checkpoints, events, family, jobs, labels, orders, queue, runs, summaries
from engine.ledger.best import higher_is_better
from engine.ledger.exchange.adding import END_UNKNOWN
from engine.ledger.states import State
from screens.widgets import figures
from workbench.cli.existing import existing_ledger
from workbench.cli.output import Cell, figure, print_json, print_table, state_word
from workbench.cli.runs.listing import brief

JOULES: Final = 3.6e6  # of a kWh


def show(options: argparse.Namespace) -> int:
    """Everything about one run, or its profile."""
    ledger = existing_ledger(options.ledger)
    run = runs.find(ledger, options.runs[0])
    document = runs.document(ledger, run)
    if options.profile:
        if not document.profile:
            why = f"It comes from {run.source}; its settings: workbench runs show {run.uid} --json"
            raise Problem(f"{run.name} has no profile", why if run.source else "")
        if options.json:
            print_json({"uid": run.uid, "name": run.name, "profile": tomlkit.parse(document.profile).unwrap()})
        else:
            print(document.profile, end="")
        return 0
    if options.json:
        print_json(_whole(ledger, run, document))
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
    places = queue.places(ledger)
    return {
        **brief(run, summaries.of_run(ledger, run), labels.tags(ledger, run)),
        "queue": places.get(run.id),
        "folder": run.folder,
        "settings": runs.settings(ledger, run),
        "parent": run.parent,
        "profile": tomlkit.parse(document.profile).unwrap(),
        "environment": document.environment,
        "fingerprints": {key: document.fingerprints.get(key) for key in ("data", "base", "result")}
        | document.fingerprints,
        "jobs": [
            {key: getattr(job, key) for key in kept} | {"state": jobs.seen_state(job), "gpus": json.loads(job.places)}
            for job in jobs.of_run(ledger, run.id)
        ],
        "checkpoints": [
            {**vars(checkpoint), "path": str(checkpoint.path)} for checkpoint in checkpoints.of_run(ledger, run.id)
        ],
        "backoffs": [{"step": event.step, **event.detail} for event in events.of_kind(ledger, run.id, "memory")],
        "orders": [vars(order) for order in orders.taken(ledger, run.id)],
        "memory": {
            "predicted_mib": run.predicted_mib,
            "measured_mib": run.measured_mib,
            **asdict(recorded.of(document.environment)),
        },
        "result": {"kind": run.result_kind, "path": run.result},
        "artifacts": [vars(artifact) for artifact in artifacts.of_run(ledger, run.id)],
        "comparable": run.comparable,
        "family": [
            {
                "relation": one.relation,
                "name": one.name,
                "what": one.what,
                "uid": one.run.uid if one.run else None,
                "depth": one.depth,
            }
            for one in family.of_run(ledger, run)
        ],
    }


def _print_run(ledger: Ledger, run: runs.Run, document: runs.Document) -> None:
    settings = runs.settings(ledger, run)
    job = jobs.newest_training(ledger, run.id)
    message = job.message if job else ""
    doing = job.doing if job and run.state in (State.QUEUED, State.STARTING) else ""
    method = f"{settings.get('method.name', '')} {settings.get('model.quantization', '')}".replace(" none", "").strip()
    predicted = recorded.of(document.environment).predicted
    how = f" ({predicted.source})" if predicted and run.predicted_mib else ""
    memory = f"predicted {_mib(run.predicted_mib)}{how}, measured {_mib(run.measured_mib)}"
    facts: list[tuple[str, Cell]] = [
        ("name", run.name),
        ("uid", run.uid),
        ("state", state_word(run.state, run.cause, queue.places(ledger).get(run.id))),
        *(("message" if number == 0 else "", line) for number, line in enumerate(message.splitlines())),
        ("", "its source does not tell how it ended" if run.cause == END_UNKNOWN else ""),
        ("now", doing),
        (
            "seen",
            f"on {job.host}, {figures.clock(job.heartbeat, time.time())}" if job and jobs.is_out_of_reach(job) else "",
        ),
        ("step", f"{run.step} of {run.steps or '?'}"),
        ("created", time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))),
        ("base", str(settings.get("model.base", ""))),
        ("method", method),
        ("objective", str(settings.get("training.objective", ""))),
        ("data", ", ".join(str(value) for key, value in settings.items() if key.endswith(".source"))),
        ("memory", memory if run.predicted_mib or run.measured_mib else ""),
        ("result", f"{run.result_kind}: {run.result}" if run.result else ""),
        ("folder", f"{run.folder}{'' if run.folder.is_dir() else '  (not on this machine)'}"),
        ("parent", run.parent),
        *_story(ledger, run, document),
        ("tags", " ".join(labels.tags(ledger, run))),
        ("is", ", ".join(word for word, so in (("the baseline", run.baseline), ("archived", run.archived)) if so)),
        ("source", run.source),
        *(("note" if number == 0 else "", line) for number, line in enumerate(run.note.splitlines())),
    ]
    print_table(("", ""), [fact for fact in facts if fact[1]], titled=False)
    metrics = summaries.of_run(ledger, run)
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


def _best(key: str, summary: summaries.Summary) -> tuple[float | None, int | None]:
    """The best value and its step; nothing for what is neither better high nor low, such as the learning rate."""
    judged = key.endswith("/loss") or higher_is_better(key)
    return (summary.best, summary.best_step) if judged else (None, None)


def _mib(value: float | None) -> str:
    return "–" if value is None else f"{value / 1024:.1f} GiB" if value >= 1024 else f"{value:.0f} MiB"


def _story(ledger: Ledger, run: runs.Run, document: runs.Document) -> Iterator[tuple[str, Cell]]:
    """What the run goes on from, what it trains, where it worked, and what was done to it on the way."""
    before = document.environment.get("lineage")
    if isinstance(before, list):
        chain = (f"{one.get('name')} ({one.get('objective')}, {one.get('method')})" for one in before)
        yield "goes on from", ", then ".join(chain)
    told = {event.kind: event.text for event in events.of_run(ledger, run.id) if event.kind in ("inventory", "packing")}
    came = [f"{one.name} ({one.what})" for one in family.of_run(ledger, run) if one.relation == "child"]
    yield "gone on with", ", ".join(came)
    yield from told.items()
    gpus = [place for job in jobs.of_run(ledger, run.id) if job.started for place in json.loads(job.places)]
    yield "ran on", " · ".join((*filter(None, (run.gpu,)), *(gpu for gpu in dict.fromkeys(gpus) if gpu != run.gpu)))
    yield "work", _work(ledger, run, document)
    for event in events.of_kind(ledger, run.id, "memory"):
        yield "smaller", event.text
    taken = [
        f"{order.verb}{f' {order.value:g}' if order.value else ''} at {order.step}"
        for order in orders.taken(ledger, run.id)
    ]
    yield "orders", ", ".join(taken)


def _work(ledger: Ledger, run: runs.Run, document: runs.Document) -> str:
    """What was computed, how well the GPU was used for it, and what that took."""
    work, metrics = document.environment.get("work"), summaries.of_run(ledger, run)
    parts = []
    if isinstance(work, dict):
        parts.append(f"{work.get('supervised', 0):,} supervised of {work.get('tokens', 0):,} tokens")
        parts.append(f"{work.get('flops', 0):.3g} FLOPs")
    if (mfu := metrics.get("train/mfu")) and mfu.last is not None:
        parts.append(f"MFU {figures.percent(mfu.last)}")
    if (energy := metrics.get("energy/joules")) and energy.last is not None:
        parts.append(f"{energy.last / JOULES:.3g} kWh")
    return ", ".join(parts)
