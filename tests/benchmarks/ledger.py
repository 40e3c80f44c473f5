"""How quick and how safe the ledger is here: `python -m tests.benchmarks.ledger [--json]`.

Prints figures and asserts nothing. Log calls with ten metrics are timed in a loop of 200 steps a second whose steps multiply matrices, as
training does; in one whose steps sleep (`log_asleep`: a core that has slept is slow, as the two calls beside it show: an empty one, and
a bare queue that does nothing but keep two tuples); and back to back. Other trackers are measured in the same run (`trackers.py`), the
ledger at its full size in `scale.py`.

`lost` counts points that were acknowledged and cannot be read after SIGKILL, `returned_lost` those whose log call had returned: the
measure that other trackers are held to, which acknowledge nothing.
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
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from engine.ledger import Ledger, metrics, runs
from engine.ledger.runs import Run
from tests.benchmarks import scale, trackers, trackers_inside
from tests.benchmarks.trackers_inside import compute

VALUES: Final = {f"metric/{number}": number / 3 for number in range(10)}
Figures = dict[str, float | int | str]

LOG: Final = """
import sys, time
from pathlib import Path
from engine.ledger import Ledger, metrics
log = metrics.Writer(Ledger.open(Path(sys.argv[1])), int(sys.argv[2]))
pause = float(sys.argv[3])
values = {f"metric/{number}": number / 3 for number in range(10)}
for step in range(10**9):
    log.log(step, values)
    if pause:
        print(step + 1, flush=True)
        time.sleep(pause)
    elif step % 50 == 0:
        print(log.acknowledged, flush=True)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--alone", action="store_true", help="without the other trackers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        figures: Figures = {**log_calls(folder), **bulk(folder)}
        say("killing ...")
        figures |= kills(folder, options.kills)
        figures |= scale.measured(folder, options.runs, say)
    peers = {} if options.alone else trackers.measured(say)
    for each in peers.values():
        each |= ratios(figures, each)
    if options.json:
        print(json.dumps({**figures, "peers": peers}))
        return
    show(figures)
    for name, each in peers.items():
        print(f"\n{name}")
        show(each)


def say(what: str) -> None:
    """Progress, beside the figures."""
    print(what, file=sys.stderr, flush=True)


def show(figures: Figures) -> None:
    """As lines."""
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):44} {value:>14,.1f}" if isinstance(value, float) else f"{name:44} {value:>14}")


def ratios(ours: Figures, peer: Figures) -> Figures:
    """How many times as long, or as large, it is there."""
    names = ("log_p50_us", "log_p99_us", "million_points_s", "bytes_per_point", "curve_ms")
    # A curve of theirs is shorter: it is compared by the point.
    lengths = {"curve_ms": scale.LONG / float(peer.get("curve_steps", scale.LONG))}
    return {
        f"{name}_ratio": float(peer[name]) * lengths.get(name, 1.0) / float(ours[name])
        for name in names
        if name in peer
    }


def new(folder: Path, name: str) -> tuple[Ledger, Run]:
    """A ledger of its own with one run."""
    ledger = Ledger.open(folder / name / "ledger.db")
    return ledger, runs.create(ledger, name=name, runs_folder=folder, profile="", settings={})


def timed(work: Callable[[int], object], calls: int, wait: Callable[[], object]) -> tuple[float, float]:
    """The median and the 99th percentile of a call, in microseconds."""
    taken = []
    for number in range(calls):
        before = time.perf_counter()
        work(number)
        taken.append(time.perf_counter() - before)
        wait()
    return float(np.percentile(taken, 50)) * 1e6, float(np.percentile(taken, 99)) * 1e6


def log_calls(folder: Path) -> Figures:
    """What a log call costs the loop: medians of three turns."""
    ledger, run = new(folder, "calls")
    bare: deque[object] = deque(maxlen=1000)
    figures: Figures = {}
    with ledger, metrics.Writer(ledger, run.id) as log:
        for name, work, calls, wait in (
            ("log", lambda step: log.log(step, VALUES), 600, compute),
            ("log_asleep", lambda step: log.log(1000 + step, VALUES), 600, sleep),
            ("bare_asleep", lambda _: bare.append((tuple(VALUES), tuple(map(float, VALUES.values())))), 600, sleep),
            ("empty_asleep", lambda _: None, 600, sleep),
            ("log_back_to_back", lambda step: log.log(2000 + step, VALUES), 50_000, lambda: None),
        ):
            turns = [timed(work, calls, wait) for _ in range(3)]
            figures[f"{name}_p50_us"], figures[f"{name}_p99_us"] = (float(each) for each in np.median(turns, axis=0))
    return figures


def sleep() -> None:
    """A step in which nothing happens."""
    time.sleep(1 / trackers_inside.RATE)


def bulk(folder: Path) -> Figures:
    """A million points, until they are on the disk and the file is closed."""
    ledger, run = new(folder, "bulk")
    steps = 100_000
    before = time.perf_counter()
    with metrics.Writer(ledger, run.id) as log:
        for step in range(steps):
            log.log(step, VALUES)
    ledger.close()
    taken = time.perf_counter() - before
    points = steps * len(VALUES)
    return {
        "million_points_s": taken * 1e6 / points,
        "points_per_second": points / taken,
        "bytes_per_point": ledger.path.stat().st_size / points,
    }


def kills(folder: Path, times: int) -> Figures:
    """SIGKILL at full speed, and as the other trackers meet it."""
    lost = acknowledged = 0
    sound = True
    for number in range(times):
        ledger, run = new(folder, f"kill-{number}")
        told = killed_at_full_speed(ledger, run, 0.1 + 0.05 * number)
        there = len(metrics.curve(ledger, run.id, "metric/0").steps)
        acknowledged += told * len(VALUES)
        lost += max(0, told - there) * len(VALUES)
        sound &= ledger.value("PRAGMA integrity_check") == "ok"
        ledger.close()
    returned = []
    for number in range(trackers.KILLS):
        ledger, run = new(folder, f"slow-{number}")
        told = trackers.killed([sys.executable, "-c", LOG, str(ledger.path), str(run.id), "0.005"])
        returned.append(max(0, told - len(metrics.curve(ledger, run.id, "metric/0").steps)) * len(VALUES))
        ledger.close()
    return {
        "kills": times,
        "points_acknowledged": acknowledged,
        "lost": lost,
        "integrity": "ok" if sound else "NO",
        "returned_lost": sum(returned),
        "returned_lost_each": ", ".join(map(str, returned)),
    }


def killed_at_full_speed(ledger: Ledger, run: Run, after: float) -> int:
    """The last row that was acknowledged."""
    command = [sys.executable, "-c", LOG, str(ledger.path), str(run.id), "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout
    process.stdout.readline()
    time.sleep(after)
    os.kill(process.pid, signal.SIGKILL)
    told = max([0, *(int(line) for line in process.stdout.read().split(b"\n") if line)])
    process.wait()
    return told


if __name__ == "__main__":
    main()
