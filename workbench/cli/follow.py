"""Watching a run from the command line: a line per event, a progress line every few seconds, the verdict at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from engine.ledger import Ledger, events, jobs, runs, summaries
from engine.ledger.states import ENDED, State
from screens.widgets import figures
from workbench.cli.output import figure, printable, words

POLL_EVERY: Final = 0.25  # seconds
PROGRESS_EVERY: Final = 4.0  # seconds
LATEST: Final = 10  # events that are told again when watching begins
CODES: Final = {State.FINISHED: 0, State.STOPPED: 1, State.FAILED: 2, State.LOST: 2}
DETACHES: Final = "Ctrl-C detaches; the run goes on."
DETACHED: Final = 130


@dataclass(frozen=True)
class Ending:
    """How the run stood when watching ended, and the exit code that says so."""

    state: State
    code: int


def follow(ledger: Ledger, run: runs.Run) -> Ending:
    """Tell on stderr what the run does until it ends, after its latest events. Ctrl-C detaches: the run goes on."""
    try:
        words(f"{run.name} ({run.uid}) is {run.state}.{'' if run.state in ENDED else f' {DETACHES}'}")
        return _watch(ledger, run)
    except KeyboardInterrupt:
        seen = runs.by_id(ledger, run.id)
        words(
            f"\nDetached: {run.name} goes on."
            f"\nWatch it again: workbench runs follow {run.name}   Stop it: workbench runs stop {run.name}"
        )
        return Ending(seen.state if seen else run.state, DETACHED)


def _watch(ledger: Ledger, run: runs.Run) -> Ending:
    last_event, many = 0, LATEST
    told, told_at = "", time.monotonic()
    while True:
        # The state is read before the events: what a job wrote before it ended is then never missed.
        now = runs.by_id(ledger, run.id)
        for event in events.of_run(ledger, run.id, after=last_event, limit=many):
            last_event = event.id
            if event.kind != "failed":  # the verdict says it
                words(event_line(event))
        many = 1000
        if now is None:
            words(f"{run.name} was deleted.")
            return Ending(State.LOST, 2)
        if now.state in ENDED:
            words(_verdict(ledger, now))
            return Ending(now.state, CODES[now.state])
        if time.monotonic() - told_at >= PROGRESS_EVERY:
            line = progress_line(ledger, now)
            if line != told:
                words(f"{figures.clock_with_seconds(time.time())}   {line}")
            told, told_at = line, time.monotonic()
        time.sleep(POLL_EVERY)


def event_line(event: events.Event) -> str:
    """An event as one line: time, a mark for what needs a look, step, text."""
    mark = {"info": " ", "warning": "!", "error": "x"}[event.level]
    step = f"step {event.step}: " if event.step is not None else ""
    return f"{figures.clock_with_seconds(event.time)} {mark} {step}{printable(event.said)}"


def progress_line(ledger: Ledger, run: runs.Run) -> str:
    """Where the run is: what its job is doing, or steps with losses, speed and the expected end."""
    if not run.step:
        job = jobs.newest_training(ledger, run.id)
        doing = job.doing if job else ""
        share = f" {job.done}/{job.total}" if job and job.total else ""
        return f"{printable(doing) or run.state}{share}"
    parts = [f"step {run.step}/{run.steps or '?'}"]
    summary = summaries.of_run(ledger, run)
    for key, label in (("train/loss", "loss"), ("validation/loss", "validation")):
        if key in summary:
            parts.append(f"{label} {figure(summary[key].last)}")
    if "train/tokens_per_second" in summary:
        parts.append(f"{figures.count(summary['train/tokens_per_second'].last)} tokens/s")
    if run.state != State.RUNNING:
        parts.append(run.state)
    elif run.ends:
        parts.append(f"ends {figures.clock(run.ends, time.time())}")
    return "  ".join(parts)


def _verdict(ledger: Ledger, run: runs.Run) -> str:
    if run.state == State.FINISHED:
        return f"{run.name} finished. Its {run.result_kind or 'result'} is in {run.result or run.folder}"
    again = "Go on with it where it was started." if run.source else f"Go on with: workbench runs resume {run.name}"
    if run.state == State.STOPPED:
        return f"{run.name} was stopped at step {run.step}. {again}"
    if run.state == State.LOST:
        return f"{run.name} is lost: its process is gone.\n{again}"
    job = jobs.newest_training(ledger, run.id)
    message = job.message if job else ""
    log = f"\nIts log is {job.log}" if job else ""
    return f"{run.name} failed{' (' + run.cause + ')' if run.cause else ''}\n{message}{log}".replace("\n\n", "\n")
