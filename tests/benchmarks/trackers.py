"""The other trackers of the ledger's benchmark: each in an environment of its own, made for the benchmark in a cache folder.

Nothing of the project depends on them. One that cannot be installed is left out, and it is said why.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import platformdirs

from engine.ledger.exchange.imported import Reader
from engine.ledger.exchange.tensorboard import EventFolder
from engine.ledger.exchange.wandb import OfflineRun

WANTED: Final = ("trackio==0.43.0", "tensorboardX==2.6.5", "wandb==0.31.0", "mlflow==3.17.2")
INSIDE: Final = Path(__file__).with_name("trackers_inside.py")
STEPS: Final = {"mlflow": 2_000}  # logged at once, ten values each; fewer where one takes milliseconds
USUAL_STEPS: Final = 10_000
KILLS: Final = 3
LOGGING: Final = 2.0  # seconds until the end comes
Figures = dict[str, float | int | str]


def measured(say: Callable[[str], object]) -> dict[str, Figures]:
    """The figures of every tracker that can be installed; `left_out` says why there are none."""
    figures: dict[str, Figures] = {}
    for requirement in WANTED:
        name = requirement.partition("==")[0]
        say(f"{requirement} ...")
        python, wrong = environment(requirement)
        try:
            figures[name] = {"left_out": wrong} if wrong else _measure(name, python)
        except (subprocess.CalledProcessError, RuntimeError) as error:  # the others are measured all the same
            figures[name] = {"left_out": f"{requirement} does not run here: {error}"}
    return figures


def environment(requirement: str) -> tuple[Path, str]:
    """The tracker's own Python, made where it is not there yet; what went wrong, or nothing."""
    folder = platformdirs.user_cache_path("workbench-benchmarks") / requirement
    python, made = folder / "bin" / "python", folder / "made"
    if made.exists():
        return python, ""
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", requirement, "numpy"],  # a step computes
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return python, f"{requirement} cannot be installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}"
    made.touch()
    return python, ""


def _measure(name: str, python: Path) -> Figures:
    steps = STEPS.get(name, USUAL_STEPS)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        called = _told(python, name, "calls", _new(folder / "calls"))
        bulk = _told(python, name, "bulk", _new(folder / "bulk"), steps)
        size = sum(path.stat().st_size for path in (folder / "bulk").rglob("*") if path.is_file())
        figures: Figures = {
            "log_p50_us": called["p50_us"],
            "log_p99_us": called["p99_us"],
            "million_points_s": bulk["seconds"] * 1e6 / (10 * steps),
            "bytes_per_point": size / (10 * steps),
        }
        if name in ("trackio", "mlflow"):
            read = _told(python, name, "read", folder / "bulk")
            figures["curve_ms"], figures["curve_steps"] = read["curve_ms"], int(read["steps"])
        lost = [_killed(name, python, _new(folder / f"kill-{number}")) for number in range(KILLS)]
        figures["lost"] = sum(lost)
        figures["lost_each"] = ", ".join(map(str, lost))
    return figures


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _told(python: Path, name: str, task: str, folder: Path, *more: int) -> dict[str, float]:
    command = [str(python), str(INSIDE), name, task, str(folder), *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _killed(name: str, python: Path, folder: Path) -> int:
    """Points whose log call had returned when the process was killed, and that cannot be read afterwards."""
    told = killed([str(python), str(INSIDE), name, "kill", str(folder)])
    return max(0, told - _readable(name, python, folder)) * 10


def killed(command: list[str]) -> int:
    """Start it, end it with SIGKILL after a while; the last number that it printed."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1)
    assert process.stdout
    while not (line := process.stdout.readline().strip()).isdigit():
        if not line and process.poll() is not None:
            raise RuntimeError(f"{command} ended by itself")
    time.sleep(LOGGING)
    process.send_signal(signal.SIGKILL)
    told = [int(line)] + [int(line) for line in process.stdout.read().split() if line.isdigit()]
    process.wait()
    time.sleep(1.0)  # for what a process beside it still writes
    return told[-1]


def _readable(name: str, python: Path, folder: Path) -> int:
    """Steps that can be read back."""
    if name in ("trackio", "mlflow"):
        try:
            return int(_told(python, name, "read", folder)["steps"])
        except subprocess.CalledProcessError:  # there is nothing to be read
            return 0
    readers: list[Reader] = [OfflineRun(path) for path in folder.rglob("*.wandb")]
    for reader in readers or [EventFolder(folder, "run")]:
        run = reader.read()
        if run and "metric/3" in run.points:
            return len(run.points["metric/3"].steps)
    return 0
