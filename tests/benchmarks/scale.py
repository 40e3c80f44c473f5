"""The ledger at its full size: 10,000 runs of 1,000 steps with ten metrics each, 100 million points, and one run of 100,000 steps.

Cold means a process that has just started and a file that the system has just been told to forget.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from engine.ledger import Ledger, metrics, runs, table
from engine.ledger.merging import merge
from screens.widgets import plot

LOSS: Final = "validation/loss"
KEYS: Final = (LOSS, "train/loss", "train/grad_norm", "train/rate", "train/tokens", *(f"time/{n}" for n in range(5)))
STEPS: Final = 1_000  # of a usual run
LONG: Final = 100_000  # of the long one
SPIKES: Final = 50
COLUMNS: Final = 2_000  # of a picture
Figures = dict[str, float | int | str]

COLD: Final = """
import sys, time
from pathlib import Path
from engine.ledger import Ledger, metrics, table
with Ledger.open(Path(sys.argv[1])) as ledger:
    before = time.perf_counter()
    if sys.argv[2] == "table":
        rows = table.read(ledger, ["validation/loss"]).rows
        sorted(rows, key=lambda row: row.metrics["validation/loss"].best)
    else:
        metrics.curve(ledger, int(sys.argv[3]), "train/loss")
    print((time.perf_counter() - before) * 1e3)
"""


def measured(folder: Path, count: int, say: Callable[[str], object]) -> Figures:
    """Fill, read, merge."""
    say(f"filling {count:,} runs ...")
    with filled(folder / "large.db", count) as ledger:
        long = long_run(ledger, folder)
    path = folder / "large.db"
    say("reading ...")
    figures: Figures = {
        "runs": count,
        "points": (count * STEPS + LONG) * len(KEYS),
        "ledger_mb": path.stat().st_size / 1e6,
    }
    figures["table_cold_ms"] = cold(path, "table")
    figures["curve_cold_ms"] = cold(path, "curve", str(long))
    with Ledger.open(path) as ledger:
        figures["table_warm_ms"] = median(lambda: sorted(table.read(ledger, [LOSS]).rows, key=_best), 9)
        whole = table.read(ledger, [LOSS])
        figures["table_again_ms"] = median(lambda: table.refreshed(ledger, whole), 9)
        figures["settings_ms"] = median(lambda: table.settings(ledger), 3)
        figures["curve_ms"] = median(lambda: metrics.curve(ledger, long, "train/loss"), 9)
        figures["increment_of_50_us"] = 1e3 * median(lambda: metrics.curve(ledger, long, LOSS, after=LONG - 50), 9)
        figures["version_us"] = 1e3 * median(ledger.version, 1000)
        figures["spikes"] = spikes(ledger, long)
    say("merging 1,000 runs ...")
    return figures | merged(folder)


def filled(path: Path, count: int) -> Ledger:
    """A ledger with so many finished runs, all with the points of the first; the summaries differ. It is open."""
    ledger = Ledger.open(path)
    settings = {f"part.key_{key}": key for key in range(60)}
    first = runs.create(ledger, name="run", runs_folder=path.parent, profile="x" * 2500, settings=settings)
    with metrics.Writer(ledger, first.id) as log:
        for step in range(STEPS):
            log.log(step, {key: math.sin(step / 50 + place) for place, key in enumerate(KEYS)})
    with ledger.transaction() as connection:
        connection.executemany(
            "INSERT INTO run (uid, name, created, folder, state, step, steps) VALUES (?, ?, ?, ?, 'finished', 1000, 1000)",
            [(f"{path.stem[:3]}{n:09x}", f"run-{n}", 1e9 + n, str(path.parent / str(n))) for n in range(2, count + 1)],
        )
        connection.execute(
            "INSERT INTO run_document (run, profile, settings)"
            " SELECT r.id, d.profile, json_set(d.settings, '$.\"part.key_1\"', r.id % 7) FROM run r, run_document d"
            " WHERE d.run = ? AND r.id != d.run",
            (first.id,),
        )
        connection.execute(
            "INSERT INTO series (run, key, n, gaps, last, last_step, min, min_step, max, max_step, smoothed)"
            " SELECT r.id, key, n, gaps, last + u, last_step, min + u, min_step, max + u, max_step, smoothed + u"
            " FROM (SELECT id, (id * 7919 % 10007) / 1e4 AS u FROM run WHERE id != ?) r, series s WHERE s.run = ?",
            (first.id, first.id),
        )
    for start in range(2, count + 1, 500):  # in portions that the write-ahead log can hold
        with ledger.transaction() as connection:
            _copy_points(connection.execute, first.id, start, min(start + 500, count + 1))
    return ledger


def _copy_points(execute: Callable[[str, tuple[int, ...]], object], first: int, start: int, end: int) -> None:
    columns = ("keyset", "first_step", "last_step", "n", "last_seq", "first_seq", "steps", "seqs", "times")
    execute(
        f"INSERT INTO segment (run, {', '.join(columns)})"
        f" SELECT r.id, {', '.join(f's.{column}' for column in columns)} FROM run r, segment s WHERE s.run = ? AND r.id >= ? AND r.id < ?",
        (first, start, end),
    )
    execute(
        "INSERT INTO packed (segment, key, vals) SELECT copy.id, p.key, p.vals"
        " FROM segment copy JOIN segment s ON s.run = ? AND s.keyset = copy.keyset AND s.first_step = copy.first_step"
        " JOIN packed p ON p.segment = s.id WHERE copy.run >= ? AND copy.run < ?",
        (first, start, end),
    )


def long_run(ledger: Ledger, folder: Path) -> int:
    """The run of 100,000 steps, with planted spikes in `train/loss`."""
    run = runs.create(ledger, name="long", runs_folder=folder, profile="", settings={})
    planted = set(_planted())
    with metrics.Writer(ledger, run.id) as log:
        for step in range(LONG):
            loss = 1.0 + math.exp(-step / 2e4) + 0.01 * math.sin(step)
            log.log(step, {key: loss + (1.0 if step in planted and key == "train/loss" else 0.0) for key in KEYS})
    return run.id


def _best(row: table.Row) -> float:
    return row.metrics[LOSS].best or 0.0


def _planted() -> list[int]:
    return sorted(np.random.default_rng(7).choice(LONG, SPIKES, replace=False).tolist())


def spikes(ledger: Ledger, run: int) -> int:
    """How many of the planted spikes are in a picture of 2,000 columns, as dots of the chart."""
    curve = metrics.curve(ledger, run, "train/loss")
    x, y = plot.Axis(0.0, LONG - 1.0, (), 1.0), plot.ticks(0.0, 4.0, 8)
    dots = plot.dots(curve.steps.astype(np.float64), curve.values, x, y, COLUMNS // 2, 40)
    usual = 1.0 + np.exp(-np.arange(LONG) / 2e4)
    shown = 0
    for step in _planted():
        cell = round(step / (LONG - 1) * (COLUMNS - 1)) // 2
        row = int(np.flatnonzero(dots[:, cell])[0])  # the highest that is lit
        lit = y.high - (row + 1) * (y.high - y.low) / 40  # at least
        shown += bool(lit > usual[step] + 0.7)
    return shown


def merged(folder: Path) -> Figures:
    """1,000 runs of another ledger, 10 million points, into one that has some; then once more."""
    filled(folder / "elsewhere.db", 1_000).close()
    with filled(folder / "here.db", 100) as ledger:
        before = time.perf_counter()
        first = merge(ledger, folder / "elsewhere.db")
        between = time.perf_counter()
        second = merge(ledger, folder / "elsewhere.db")
        after = time.perf_counter()
        return {
            "merge_s": between - before,
            "merge_added": len(first.added),
            "merge_again_s": after - between,
            "merge_again_added": len(second.added),
        }


def cold(path: Path, *task: str) -> float:
    """Milliseconds of a first look, the median of three."""
    taken = []
    for _ in range(3):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        done = subprocess.run(
            [sys.executable, "-c", COLD, str(path), *task], capture_output=True, text=True, check=True
        )
        taken.append(float(json.loads(done.stdout)))
    return sorted(taken)[1]


def median(work: Callable[[], object], times: int) -> float:
    """Milliseconds."""
    taken = []
    for _ in range(times):
        before = time.perf_counter()
        found = work()
        taken.append(time.perf_counter() - before)
        del found  # what was found is thrown away when nobody waits for it
    return float(np.median(taken)) * 1e3
