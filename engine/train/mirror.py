"""Metrics of a run that also go to another tracker while it trains: a process of its own reads the ledger and hands them on.

The training does not know of it: a tracker that hangs, raises or takes a second a call costs it nothing. The process ends by itself
when the job has, however that ended. What has been handed on is kept in a file beside it, so that a resumed run, which trains some
steps again, does not hand them on twice: they are the same (a resumed run repeats its steps).
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engine import process
from engine.atomic import write_text
from engine.ledger import Ledger, events, jobs, metrics, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import LIVE
from engine.places import private_folder
from engine.train.trackers import OPEN, Tracker

LOOK_EVERY: Final = 2.0  # seconds
FOLDER: Final = "mirrors"  # in the run's folder

log = logging.getLogger(__name__)


def start(ledger: Ledger, job: Job, run: Run, kinds: Sequence[str]) -> None:
    """Start a process for each tracker. One that cannot be started is told as an event; the training goes on without it."""
    for kind in kinds:
        folder = run.folder / FOLDER
        command = [sys.executable, "-P", "-m", "engine.train.mirror", kind, job.uid, "--ledger", str(ledger.path)]
        try:
            private_folder(folder)
            with (folder / f"{kind}.txt").open("ab") as output:
                # Threads of numeric libraries would only take room from the training's.
                settings = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=settings,
                    start_new_session=True,
                )
        except OSError as error:
            _warn(ledger, run, f"Metrics are not mirrored to {kind}: {error.strerror}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Mirror one job's run to one tracker; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -P -m engine.train.mirror", description="Mirror a run's metrics.")
    parser.add_argument("kind", choices=sorted(OPEN))
    parser.add_argument("job", help="uid of the training job")
    parser.add_argument("--ledger", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    process.listen()
    process.be_deaf()  # the job hears signals; this ends when the job has
    with Ledger.open(chosen.ledger) as ledger:
        job = jobs.get(ledger, chosen.job)
        run = runs.by_id(ledger, job.run) if job.run is not None else None
        if run is None:
            return 0
        folder = private_folder(run.folder / FOLDER)
        try:
            with _alone(folder / f"{chosen.kind}.json") as mark:
                tracker = OPEN[chosen.kind](run, runs.settings(ledger, run), folder / chosen.kind)
                events.add(ledger, "mirror", f"Metrics also go to {chosen.kind}: {tracker.look}", run=run.id)
                hand_on(ledger, job, run, tracker, mark)
        except Exception as error:
            log.error("the mirror ended", exc_info=error)
            words = str(error).partition("\n")[0]
            _warn(ledger, run, f"Metrics are no longer mirrored to {chosen.kind}: {type(error).__name__}: {words}")
            return 1
    return 0


def hand_on(ledger: Ledger, job: Job, run: Run, tracker: Tracker, mark: Path) -> None:
    """Hand on what is new every few seconds until the job has ended, then the rest."""
    done: dict[str, int] = json.loads(mark.read_text()) if mark.exists() else {}
    version = -1
    while True:
        # The state is read first: what a job wrote before it ended is then never missed.
        over = jobs.seen_state(jobs.get(ledger, job.uid)) not in LIVE
        if version != (version := ledger.version()):
            for step, when, values in _new(ledger, run, done):
                tracker.log(step, when, values)
                done |= dict.fromkeys(values, step)
            tracker.flush()
            write_text(mark, json.dumps(done))
        if over:
            tracker.close()
            return
        time.sleep(LOOK_EVERY)


def _new(ledger: Ledger, run: Run, done: dict[str, int]) -> Iterator[tuple[int, float, dict[str, float]]]:
    """Step, time and values of the points behind those that are done, by step; all keys from one state of the ledger."""
    rows: dict[int, tuple[float, dict[str, float]]] = {}
    for name, curve in metrics.curves(ledger, run.id, metrics.keys(ledger, run.id)).items():
        new = curve.steps > done.get(name, -1)
        for step, when, value in zip(
            curve.steps[new].tolist(), curve.times[new].tolist(), curve.values[new].tolist(), strict=True
        ):
            rows.setdefault(step, (when, {}))[1][name] = value
    return ((step, *rows[step]) for step in sorted(rows))


@contextmanager
def _alone(mark: Path) -> Iterator[Path]:
    """Wait until the mirror of the job before has ended: one at a time hands on, or steps would come twice."""
    with mark.with_suffix(".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield mark


def _warn(ledger: Ledger, run: Run, text: str) -> None:
    events.add(ledger, "mirror", text, run=run.id, level="warning")


if __name__ == "__main__":
    sys.exit(main())
