"""The demonstration as a sequence of jobs: make the base model, tune it on speech readings, ask both the same questions.

`stages` starts one job at a time; whoever goes through it waits for each job before asking for the next. The command line tells what
they do, the application shows it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from engine import launch, places, profile_file
from engine.atomic import write_bytes
from engine.errors import Problem
from engine.ledger import Ledger, jobs, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import ENDED, LIVE, State
from engine.places import private_folder
from engine.profile import Profile
from workbench.demo import foundation, speech, suites

NAME: Final = "demo-speech"
VOICES: Final = "voices.jsonl"
ROWS: Final = 640  # 160 held out, 48 to validate on, 432 to learn from
THREADS: Final = "2"  # a model this small gains nothing from more
POLL_EVERY: Final = 0.25  # seconds
_SEED: Final = 21

# What the shipped profile for speech analysis says otherwise for a base of a million parameters and a demonstration of minutes.
SETTINGS: Final = (
    "model.dtype=float32",
    "model.quantization=none",
    "split.test=0.25",
    "method.dropout=0.0",
    "training.epochs=10",
    "training.micro_batch=16",
    "training.learning_rate=3.5e-4",
    "training.keep=1",
    "hardware.device=cpu",
)


@dataclass(frozen=True)
class Stage:
    """A job at work, whose run to watch meanwhile, and what it is for."""

    title: str
    run: Run
    job: Job


def stages(ledger: Ledger, runs_folder: Path) -> Iterator[Stage]:
    """Each job of the demonstration, started when it is asked for, or found at work. The run of the last stage is the one to compare with its base.

    Raises:
        Problem: a job cannot be started, or the one before did not finish.
    """
    launch.check_installed()
    base = foundation.find()
    if base is None:
        with _few_threads():
            run = foundation.start(ledger, runs_folder)
        stage = Stage(
            "Making the base model: a million parameters learn facts, sums and plain English", run, _job(ledger, run)
        )
        yield stage
        finished(ledger, stage)
        base = foundation.keep(runs.find(ledger, run.uid))
    run = _left_behind(ledger, base) or _start_tuning(ledger, base, runs_folder)
    stage = Stage("Fine-tuning it with LoRA on readings of voice measures", run, _job(ledger, run))
    yield stage
    finished(ledger, stage)
    run = runs.find(ledger, run.uid)
    settings = runs.settings(ledger, run)["evaluation.suites"]
    assert isinstance(settings, list)
    with _few_threads():
        job = launch.start_evaluation(ledger, [run], [str(name) for name in settings])
    stage = Stage("Asking base and tuned model the same questions", run, job)
    yield stage
    finished(ledger, stage)


def _left_behind(ledger: Ledger, base: Path) -> Run | None:
    """A tuned run of an earlier demonstration that was left while it trained and still does: it is gone on with."""
    for run in runs.listed(ledger):
        settings = runs.settings(ledger, run) if run.state in LIVE else {}
        if settings.get("model.base") == str(base) and settings.get("data.0.source") == str(write_data() / VOICES):
            return run
    return None


def _start_tuning(ledger: Ledger, base: Path, runs_folder: Path) -> Run:
    with _few_threads():
        return launch.start_training(ledger, tuning(base), name=NAME, runs_folder=runs_folder)


def tuning(base: Path) -> Profile:
    """The shipped profile for speech analysis with the demonstration's base, rows and suites.

    Raises:
        Problem: the cache cannot be written.
    """
    folder = write_data()
    suite_files = [str(path) for path in suites.write(private_folder(folder / "suites"))]
    shipped = profile_file.find("speech-analysis")
    named = (
        f"model.base={base}",
        f"data.0.source={folder / VOICES}",
        f"evaluation.suites={orjson.dumps(['test', *suite_files]).decode()}",
    )
    return profile_file.read(shipped, (*SETTINGS, *named))


def write_data() -> Path:
    """Write the generated voices to the cache; returns their folder, named after what is in it."""
    data = b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in speech.rows(ROWS, _SEED))
    folder = private_folder(places.cache() / "demo" / f"speech-{hashlib.sha256(data).hexdigest()[:12]}")
    write_bytes(folder / VOICES, data)
    return folder


def ended(ledger: Ledger, stage: Stage) -> bool:
    """Whether the stage's job is over, well or not."""
    return jobs.seen_state(jobs.get(ledger, stage.job.uid)) in ENDED


def finished(ledger: Ledger, stage: Stage) -> None:
    """See that the stage's job came to its end.

    Raises:
        Problem: it did not; says why and where its log is.
    """
    job = jobs.get(ledger, stage.job.uid)
    state = jobs.seen_state(job)
    if state is not State.FINISHED:
        raise Problem(
            f"The demonstration cannot go on: the {job.kind} job of {stage.run.name} is {state}",
            job.message or f"It was at: {job.doing or 'starting'}.",
            f"Its log is {job.log}\nStart it again: workbench demo",
            code=job.cause or "demo",
        )


def _job(ledger: Ledger, run: Run) -> Job:
    return jobs.of_run(ledger, run.id)[-1]


@contextmanager
def _few_threads() -> Iterator[None]:
    """Jobs that are started inside compute with `THREADS` threads, unless the user chose a number."""
    chosen = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = chosen or THREADS
    try:
        yield
    finally:
        if chosen is None:
            del os.environ["OMP_NUM_THREADS"]
