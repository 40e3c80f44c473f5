"""What the ledger's benchmark runs inside another tracker's environment: `python trackers_inside.py NAME TASK FOLDER [STEPS]`.

One process, one run, ten metrics a step. `calls` times log calls at 200 computing steps a second, `bulk` logs STEPS steps as fast as the
tracker takes them, `kill` logs 200 steps a second until it is killed and prints how many calls have returned, `count` and `curve` read
back. It is run by the tracker's own Python, so it imports nothing of the project. How each is used is what its documentation shows for
logging a step; only what is sent over the network or watches the machine is switched off.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Log = Callable[[int, dict[str, float]], object]
Close = Callable[[], object]
VALUES = {f"metric/{number}": number / 3 for number in range(10)}
RATE = 200  # steps a second
CALLS = 600
MATRIX = np.ones((64, 512), np.float32)


def trackio(folder: Path) -> tuple[Log, Close]:
    """Rows in an SQLite file, sent there by a thread."""
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio as tracker

    tracker.init(project="benchmark", name="run", embed=False)
    return lambda step, values: tracker.log(values, step=step), tracker.finish


def wandb(folder: Path) -> tuple[Log, Close]:
    """A log file, written by a process of its own."""
    os.environ |= {"WANDB_DIR": str(folder), "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    import wandb as tracker

    quiet = tracker.Settings(console="off", x_disable_stats=True)
    run = tracker.init(project="benchmark", name="run", settings=quiet)
    return lambda step, values: run.log(values, step=step), run.finish


def tensorboard_x(folder: Path) -> tuple[Log, Close]:
    """An event file, written by a thread."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder))

    def log(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


def mlflow(folder: Path) -> tuple[Log, Close]:
    """Rows in an SQLite file, written before the call returns."""
    import mlflow as tracker

    tracker.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    tracker.set_experiment("benchmark")
    tracker.start_run(run_name="run")
    return lambda step, values: tracker.log_metrics(values, step=step), tracker.end_run


TRACKERS: dict[str, Callable[[Path], tuple[Log, Close]]] = {
    "trackio": trackio,
    "wandb": wandb,
    "tensorboardX": tensorboard_x,
    "mlflow": mlflow,
}


def compute() -> None:
    """A step that keeps a core busy as training does: products of matrices."""
    end = time.perf_counter() + 1 / RATE
    while time.perf_counter() < end:
        MATRIX @ MATRIX.T


def calls(log: Log, close: Close, _: int) -> None:
    """The median and the 99th percentile of a call, in microseconds."""
    taken = []
    for step in range(CALLS):
        before = time.perf_counter()
        log(step, VALUES)
        taken.append(time.perf_counter() - before)
        compute()
    close()
    taken.sort()
    print(json.dumps({"p50_us": taken[CALLS // 2] * 1e6, "p99_us": taken[CALLS * 99 // 100] * 1e6}))


def bulk(log: Log, close: Close, steps: int) -> None:
    """Seconds until all is said to be kept."""
    before = time.perf_counter()
    for step in range(steps):
        log(step, VALUES)
    close()
    print(json.dumps({"seconds": time.perf_counter() - before}))


def kill(log: Log, _: Close, __: int) -> None:
    """Log until the end comes from outside."""
    for step in range(10**9):
        log(step, VALUES)
        print(step + 1, flush=True)
        time.sleep(1 / RATE)


def read_trackio(folder: Path) -> Callable[[], list[float]]:
    """As its dashboard reads."""
    os.environ["TRACKIO_DIR"] = str(folder)
    from trackio.sqlite_storage import SQLiteStorage

    return lambda: [row["value"] for row in SQLiteStorage.get_metric_values("benchmark", "run", "metric/3")]


def read_mlflow(folder: Path) -> Callable[[], list[float]]:
    """As its interface for Python reads."""
    import mlflow as tracker

    client = tracker.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "benchmark"]
    (run,) = client.search_runs([experiment.experiment_id])
    return lambda: [metric.value for metric in client.get_metric_history(run.info.run_id, "metric/3")]


READERS: dict[str, Callable[[Path], Callable[[], list[float]]]] = {"trackio": read_trackio, "mlflow": read_mlflow}


def main() -> None:
    """Do one task."""
    name, task, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if task == "read":
        read = READERS[name](folder)
        taken = []
        for _ in range(3):
            before = time.perf_counter()
            values = read()
            taken.append(time.perf_counter() - before)
        print(json.dumps({"steps": len(values), "curve_ms": sorted(taken)[1] * 1e3}))
        return
    log, close = TRACKERS[name](folder)
    {"calls": calls, "bulk": bulk, "kill": kill}[task](log, close, int(sys.argv[4]) if len(sys.argv) > 4 else 0)


if __name__ == "__main__":
    main()
