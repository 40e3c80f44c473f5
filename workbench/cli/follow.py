"""Watching a run from the command line: a line per event, a progress line every few seconds, the verdict at the end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from engine.ledger import Ledger, events, jobs, runs
from engine.ledger.states import ENDED, State
from workbench.cli.output import figure, printable, words

POLL_EVERY: Final = 0.25  # seconds
PROGRESS_EVERY: Final = 4.0  # seconds
CODES: Final = {State.FINISHED: 0, State.STOPPED: 1, State.FAILED: 2, State.LOST: 2}
DETACHED: Final = 130


@dataclass(frozen=True)
class Ending:
    """How the run stood when watching ended, and the exit code that says so."""

    state: State
    code: int


def follow(ledger: Ledger, run: runs.Run) -> Ending:
    """Tell on stderr what the run does until it ends. Ctrl-C detaches: the run goes on."""
    try:
        return _watch(ledger, run)
    except KeyboardInterrupt:
        seen = runs.by_id(ledger, run.id)
        words(
            f"\nDetached: {run.name} goes on."
            f"\nWatch it again: workbench runs follow {run.name}   Stop it: workbench runs stop {run.name}"
        )
        return Ending(seen.state if seen else run.state, DETACHED)


def _watch(ledger: Ledger, run: runs.Run) -> Ending:
    last_event = 0
    told, told_at = "", time.monotonic()
    while True:
        # The state is read before the events: what a job wrote before it ended is then never missed.
        now = runs.by_id(ledger, run.id)
        for event in events.of_run(ledger, run.id, after=last_event):
            last_event = event.id
            words(event_line(event))
        if now is None:
            words(f"{run.name} was deleted.")
            return Ending(State.LOST, 2)
        if now.state in ENDED:
            words(_verdict(ledger, now))
            return Ending(now.state, CODES[now.state])
        if time.monotonic() - told_at >= PROGRESS_EVERY:
            line = progress_line(ledger, now)
            if line != told:
                words(line)
            told, told_at = line, time.monotonic()
        time.sleep(POLL_EVERY)


def event_line(event: events.Event) -> str:
    """An event as one line: time, a mark for what needs a look, step, text."""
    mark = {"info": " ", "warning": "!", "error": "x"}[event.level]
    step = f"step {event.step}: " if event.step is not None else ""
    return f"{time.strftime('%H:%M:%S', time.localtime(event.time))} {mark} {step}{printable(event.text)}"


def progress_line(ledger: Ledger, run: runs.Run) -> str:
    """Where the run is: what its job is doing, or steps with losses, speed and the expected end."""
    clock = time.strftime("%H:%M:%S")
    if not run.step:
        work = jobs.of_run(ledger, run.id)
        doing = work[-1].doing if work else ""
        share = f" {work[-1].done}/{work[-1].total}" if work and work[-1].total else ""
        return f"{clock}   {run.state}{': ' + printable(doing) + share if doing else ''}"
    parts = [f"step {run.step}/{run.steps or '?'}"]
    summary = runs.summaries(ledger).get(run.id, {})
    for key, label in (
        ("train/loss", "loss"),
        ("validation/loss", "validation"),
        ("train/tokens_per_second", "tokens/s"),
    ):
        if key in summary:
            parts.append(f"{label} {figure(summary[key].last, 4 if 'loss' in key else 3)}")
    if run.state != State.RUNNING:
        parts.append(run.state)
    elif run.ends:
        parts.append(f"ends {time.strftime('%H:%M:%S', time.localtime(run.ends))}")
    return f"{clock}   {'  '.join(parts)}"


def _verdict(ledger: Ledger, run: runs.Run) -> str:
    if run.state == State.FINISHED:
        return f"{run.name} finished. Its {run.result_kind or 'result'} is in {run.result or run.folder}"
    if run.state == State.STOPPED:
        return f"{run.name} was stopped at step {run.step}. Go on with: workbench runs resume {run.name}"
    if run.state == State.LOST:
        return f"{run.name} is lost: its process is gone.\nGo on from its checkpoint: workbench runs resume {run.name}"
    work = [job for job in jobs.of_run(ledger, run.id) if job.kind == "train"]
    message = work[-1].message if work else ""
    log = f"\nIts log is {work[-1].log}" if work else ""
    return f"{run.name} failed{' (' + run.cause + ')' if run.cause else ''}\n{message}{log}".replace("\n\n", "\n")
