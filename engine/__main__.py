"""A job's process: `python -P -m engine JOB --ledger PATH`.

It signs in, keeps its heart beating, waits for its turn on the GPU where it is queued, does the work, and writes how it ended. This is the
one place where whatever goes wrong becomes a state, a cause in a word or two, and a message. Nothing heavy is imported before the
job's turn has come.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from engine import process, torchrun, turns, waiting
from engine.assignment import profile_of, run_of, step_of
from engine.ending import Ending, explain
from engine.errors import Problem
from engine.ledger import Ledger, beside_runs, events, jobs, runs
from engine.ledger.jobs import Job
from engine.ledger.states import State

BEAT_EVERY: Final = 3.0  # seconds
ENDING_TRIES: Final = 60  # seconds for which a locked or full ledger is tried again with how the job ended
WORK: Final = {"train": "engine.train.job", "evaluate": "engine.evaluate.job", "export": "engine.export.job"}

log = logging.getLogger("engine")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the job; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -P -m engine", description="Do a job of the ledger.")
    parser.add_argument("job", help="its uid")
    parser.add_argument("--ledger", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    process.listen()
    try:
        ledger = Ledger.open(chosen.ledger)
        job = jobs.sign_in(ledger, jobs.get(ledger, chosen.job), pid=os.getpid())
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    with ledger, _heartbeat(ledger, job), _copied(ledger, job):
        ending = _work(ledger, job)
        _end(ledger, job, ending)
    log.info("%s%s", ending.state, f": {ending.message}" if ending.message else "")
    return ending.code


@contextmanager
def _heartbeat(ledger: Ledger, job: Job) -> Iterator[None]:
    """Beat in a thread until the context ends; a ledger that is locked or full is tried again at the next beat."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_EVERY):
            try:
                jobs.beat(ledger, job)
            except (Problem, sqlite3.Error, OSError) as error:
                log.warning("heartbeat: %s", error)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _copied(ledger: Ledger, job: Job) -> Iterator[None]:
    """Keep a copy of the ledger beside the runs, where its own disk may not last."""
    run = runs.by_id(ledger, job.run) if job.run is not None else None
    with beside_runs.kept(ledger, run.folder.parent) if run else nullcontext():
        yield


def _work(ledger: Ledger, job: Job) -> Ending:
    """Wait for the turn, do the work; whatever happens becomes an ending."""
    try:
        run = run_of(ledger, job)
        hardware = profile_of(ledger, run).hardware
        with waiting.turn_of(ledger, job, run, hardware) as places:
            turns.show_only(places)
            importlib.import_module("sqlite_utils")  # slow; its first use would otherwise be inside a transaction
            jobs.set_state(ledger, job, State.STARTING)
            jobs.beat(ledger, job, doing="loading the libraries")
            if job.kind == "train" and isinstance(hardware.ranks, int) and hardware.ranks > 1:
                threads = max(1, process.threads() // hardware.ranks)
                return torchrun.run(ledger, job, run.folder / "ranks", ranks=hardware.ranks, threads=threads)
            importlib.import_module(WORK[job.kind]).run(ledger, job)
    except BaseException as error:
        ending = explain(error, step=step_of(ledger, job))
        if ending.state is State.FAILED and not isinstance(error, Problem):
            log.error("The job failed", exc_info=error)
        return ending
    return Ending(State.FINISHED)


def _end(ledger: Ledger, job: Job, ending: Ending) -> None:
    """Write the ending, again and again while the ledger is locked or full; the log has it in any case."""
    for _ in range(ENDING_TRIES):
        try:
            jobs.set_state(ledger, job, ending.state, cause=ending.cause, message=ending.message)
            if ending.state is State.FAILED:
                events.add(ledger, "failed", ending.message, run=job.run, job=job.id, level="error")
            elif ending.state is State.STOPPED:
                events.add(ledger, "stopped", ending.message, run=job.run, job=job.id)
            return
        except (Problem, sqlite3.Error, OSError) as error:
            log.warning("the job's end cannot be written yet: %s", error)
            time.sleep(1.0)


if __name__ == "__main__":
    sys.exit(main())
