"""How quick and how safe the ledger is here: `python -m tests.benchmarks.ledger [--json]`.

Prints figures and asserts nothing. Log calls are timed in a loop of 200 steps a second with ten metrics, as training makes
them, and back to back; beside them stands what an empty call costs in the same loop, because a core that has slept is slow.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from engine.ledger import Ledger, jobs, metrics, runs
from engine.ledger.packing import Packer, Row
from engine.ledger.runs import Run
from engine.ledger.states import State

VALUES: Final = {f"metric/{number}": number / 3 for number in range(10)}
Figures = dict[str, float | int | str]

LOG: Final = """
import sys
from pathlib import Path
from engine.ledger import Ledger, metrics
log = metrics.Writer(Ledger.open(Path(sys.argv[1])), int(sys.argv[2]))
values = {f"metric/{number}": number / 3 for number in range(10)}
for step in range(10**9):
    log.log(step, values)
    if step % 50 == 0:
        print(log.acknowledged, flush=True)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            **log_calls(Path(folder)),
            **bulk(Path(folder)),
            **kills(Path(folder), options.kills),
            **table(Path(folder), options.runs),
        }
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):44} {value:>14,.1f}" if isinstance(value, float) else f"{name:44} {value:>14}")


def new(folder: Path, name: str) -> tuple[Ledger, Run]:
    """A ledger of its own with one run."""
    ledger = Ledger.open(folder / name / "ledger.db")
    return ledger, runs.create(ledger, name=name, runs_folder=folder, profile="", settings={})


def timed(work: Callable[[int], object], calls: int, pause: float) -> tuple[float, float]:
    """The median and the 99th percentile of a call, in microseconds."""
    taken = []
    for number in range(calls):
        before = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - before)
        if pause:
            time.sleep(pause)
    return float(np.percentile(taken, 50)) * 1e6, float(np.percentile(taken, 99)) * 1e6


def log_calls(folder: Path) -> Figures:
    """What a log call costs the loop."""
    ledger, run = new(folder, "calls")
    figures: Figures = {}
    with ledger, metrics.Writer(ledger, run.id) as log:
        for name, work, calls, pause in (
            ("empty_call_at_200_hz", lambda _: None, 600, 0.005),
            ("log_at_200_hz", lambda step: log.log(step, VALUES), 600, 0.005),
            ("log_back_to_back", lambda step: log.log(1000 + step, VALUES), 50_000, 0.0),
        ):
            figures[f"{name}_p50_us"], figures[f"{name}_p99_us"] = timed(work, calls, pause)
    return figures


def bulk(folder: Path) -> Figures:
    """Bytes a point, points a second, and reading a curve of 100,000 points."""
    ledger, run = new(folder, "bulk")
    steps = 100_000
    before = time.perf_counter()
    with metrics.Writer(ledger, run.id) as log:
        for step in range(steps):
            log.log(step, VALUES)
    taken = time.perf_counter() - before
    curves = []
    for _ in range(5):
        start = time.perf_counter()
        curve = metrics.curve(ledger, run.id, "metric/3")
        curves.append(time.perf_counter() - start)
    start = time.perf_counter()
    metrics.curve(ledger, run.id, "metric/3", after=curve.seq - 50)
    increment = time.perf_counter() - start
    ledger.close()
    return {
        "points_per_second": steps * len(VALUES) / taken,
        "bytes_per_point": ledger.path.stat().st_size / (steps * len(VALUES)),
        "curve_of_100k_ms": float(np.median(curves)) * 1e3,
        "increment_of_50_us": increment * 1e6,
    }


def kills(folder: Path, times: int) -> Figures:
    """Points that were acknowledged and cannot be read after SIGKILL, at full speed."""
    lost = acknowledged = 0
    sound = True
    for number in range(times):
        ledger, run = new(folder, f"kill-{number}")
        process = subprocess.Popen(
            [sys.executable, "-c", LOG, str(ledger.path), str(run.id)], stdout=subprocess.PIPE, bufsize=0
        )
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.1 + 0.05 * number)
        os.kill(process.pid, signal.SIGKILL)
        told = max(int(line) for line in process.stdout.read().split(b"\n") if line)
        process.wait()
        there = len(metrics.curve(ledger, run.id, "metric/0").steps)
        acknowledged += told * len(VALUES)
        lost += max(0, told - there) * len(VALUES)
        sound &= ledger.value("PRAGMA integrity_check") == "ok"
        ledger.close()
    return {
        "kills": times,
        "points_acknowledged": acknowledged,
        "points_lost": lost,
        "integrity": "ok" if sound else "NO",
    }


def table(folder: Path, count: int) -> Figures:
    """What the table of runs reads."""
    ledger, _ = new(folder, "table")
    for number in range(count):
        settings = {f"part.key_{key}": key + number % 3 for key in range(60)}
        run = runs.create(ledger, name=f"run-{number}", runs_folder=folder, profile="x" * 2500, settings=settings)
        job = jobs.sign_in(ledger, jobs.create(ledger, "train", run=run.id, argument={}, log=folder), pid=os.getpid())
        jobs.set_state(ledger, job, State.RUNNING if number % 20 == 0 else State.FINISHED)
        rows = [Row(step, step, 0.0, tuple(VALUES), tuple(VALUES.values())) for step in range(50)]
        with ledger.transaction() as connection:
            Packer(run.id).write(connection, rows)
    with ledger:
        listed = timed(lambda _: runs.listed(ledger), 9, 0)[0] / 1e3
        three = timed(lambda _: runs.summaries(ledger, list(VALUES)[:3]), 9, 0)[0] / 1e3
        every = timed(lambda _: runs.summaries(ledger), 9, 0)[0] / 1e3
        polled = timed(lambda _: ledger.version(), 1000, 0)[0]
    return {
        "runs": count,
        "runs_listed_ms": listed,
        "three_summaries_of_all_ms": three,
        "all_summaries_of_all_ms": every,
        "version_us": polled,
    }


if __name__ == "__main__":
    main()
