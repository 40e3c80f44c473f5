"""A job's process: `python -P -m engine JOB --ledger PATH`.

It signs in, keeps its heart beating, waits for its turn on the GPU where it is queued, does the work, and writes how it ended. This is the
one place where whatever goes wrong becomes a state, a cause in a word or two, and a message. Nothing heavy is imported before the
job's turn has come.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import importlib
import json
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine import profile_file, turns
from engine.errors import Problem
from engine.ledger import Ledger, events, jobs, orders, runs
from engine.ledger.jobs import Job
from engine.ledger.states import State

BEAT_EVERY: Final = 3.0  # seconds
ENDING_TRIES: Final = 60  # seconds for which a locked or full ledger is tried again with how the job ended
WORK: Final = {"train": "engine.train.job", "evaluate": "engine.evaluate.job"}
HEAVY: Final = frozenset({"torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "safetensors"})
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

log = logging.getLogger("engine")


@dataclass(frozen=True)
class Ending:
    """How a job ended: what its row says."""

    state: State
    cause: str = ""
    message: str = ""

    @property
    def code(self) -> int:
        """The process's exit status."""
        return {State.FINISHED: 0, State.STOPPED: 130}.get(self.state, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the job; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -P -m engine", description="Do a job of the ledger.")
    parser.add_argument("job", help="its uid")
    parser.add_argument("--ledger", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    _listen()
    try:
        ledger = Ledger.open(chosen.ledger)
        job = jobs.sign_in(ledger, jobs.get(ledger, chosen.job), pid=os.getpid())
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    with ledger, _heartbeat(ledger, job):
        ending = _work(ledger, job)
        _end(ledger, job, ending)
    log.info("%s%s", ending.state, f": {ending.message}" if ending.message else "")
    return ending.code


def _listen() -> None:
    """Log to stderr, which is the job's log; outlive the terminal; let SIGTERM stop like Ctrl-C until the work listens itself."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", force=True)
    for chatty in ("httpx", "bitsandbytes"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)  # between libraries; nothing that a user of ours could change
    faulthandler.enable()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)


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


def _work(ledger: Ledger, job: Job) -> Ending:
    """Wait for the turn, do the work; whatever happens becomes an ending."""
    try:
        where = _place(ledger, job)
        queued = bool(json.loads(job.argument).get("queue"))
        run = runs.by_id(ledger, job.run) if job.run is not None else None
        with turns.turn(
            where,
            queue=queued,
            wait=lambda what: _wait(ledger, job, what),
            needs_mib=run.predicted_mib if run else None,
        ):
            turns.show_only(where)
            importlib.import_module("sqlite_utils")  # slow; its first use would otherwise be inside a transaction
            jobs.set_state(ledger, job, State.STARTING)
            jobs.beat(ledger, job, doing="starting")
            importlib.import_module(WORK[job.kind]).run(ledger, job)
    except BaseException as error:
        ending = explain(error, step=_step(ledger, job))
        if ending.state is State.FAILED and not isinstance(error, Problem):
            log.error("The job failed", exc_info=error)
        return ending
    return Ending(State.FINISHED)


def _place(ledger: Ledger, job: Job) -> str:
    """The GPU, or the CPU, that the profile of the job's run names."""
    run = runs.by_id(ledger, job.run) if job.run is not None else None
    if run is None:
        raise Problem("The run of this job was deleted", code="run")
    text = runs.document(ledger, run).profile
    return turns.place(profile_file.parse(text, run.folder / "profile.toml").hardware)


def _wait(ledger: Ledger, job: Job, what: str) -> None:
    """One second of waiting for the turn; a stop order ends it.

    Raises:
        KeyboardInterrupt: the job was told to stop.
    """
    jobs.beat(ledger, job, doing=what)
    if job.kind == "train" and job.run is not None:
        for order in orders.waiting(ledger, job.run):
            if order.verb == "stop":
                orders.acknowledge(ledger, order, step=None, answer="taken while it was queued")
                raise KeyboardInterrupt("Stopped by order before it began.")
    time.sleep(1.0)


def explain(error: BaseException, *, step: int) -> Ending:
    """The ending that an exception stands for; `step` is where the run was."""
    if isinstance(error, KeyboardInterrupt):
        message = (
            str(error)
            or "Stopped by signal while it was starting. Resuming goes on from the last checkpoint, if there is one."
        )
        return Ending(State.STOPPED, "", message)
    if isinstance(error, Problem):
        return Ending(State.FAILED, error.code or "problem", str(error))
    words = str(error).splitlines()[0] if str(error) else ""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in words:
        advice = "Lower training.micro_batch or template.max_tokens, or set training.checkpoint_activations = true."
        return Ending(State.FAILED, f"OOM at {step}", f"Out of memory at step {step}\n{words}\n{advice}")
    if _is_full(error):
        advice = "Free some space, then resume the run: it goes on from its last checkpoint, which is whole."
        return Ending(State.FAILED, "disk", f"The disk is full\n{words}\n{advice}")
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in HEAVY:
        missing = (error.name or "").partition(".")[0]
        install = "Install what training needs: pip install 'finetune-workbench[engine]'"
        return Ending(State.FAILED, missing, f"{missing} is not installed\nTraining and evaluation need it.\n{install}")
    kind = type(error).__name__
    return Ending(
        State.FAILED, kind, f"{kind}: {words}\nThis is a fault of the program; the job's log has the details."
    )


def _is_full(error: BaseException) -> bool:
    """A full disk, as the system, SQLite or the safetensors library says it."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    if isinstance(error, sqlite3.OperationalError) and "disk is full" in str(error):
        return True
    return type(error).__name__ == "SafetensorError" and any(f"os error {number}" in str(error) for number in FULL)


def _step(ledger: Ledger, job: Job) -> int:
    """Where the job's run is, as far as the ledger can still say."""
    try:
        run = runs.by_id(ledger, job.run) if job.run is not None else None
    except (Problem, sqlite3.Error):
        return 0
    return run.step if run else 0


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
