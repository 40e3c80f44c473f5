"""The libraries themselves, killed while they write: what they have on disk is read, while they do and afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.ledger import Ledger, metrics, runs
from engine.ledger.exchange import adding, sources

SCRIPTS = {
    "tensorboardX": """
from tensorboardX import SummaryWriter
writer = SummaryWriter("out", flush_secs=0)
def log(step):
    writer.add_scalar("train/loss", 1.0 / step, step)
    writer.flush()
""",
    "wandb": """
import wandb
run = wandb.init(project="speech", name="first", mode="offline", dir=".", config={"rank": 8})
def log(step):
    run.log({"train/loss": 1.0 / step, "train/global_step": step})
""",
    "trackio": """
import trackio
trackio.init(project="speech", name="first", config={"rank": 8})
def log(step):
    trackio.log({"train/loss": 1.0 / step, "train/global_step": step})
""",
}
LOOP = """
import time
for step in range(1, 100000):
    log(step)
    if step == 20:
        print("going", flush=True)
    time.sleep(0.002)
"""


@pytest.mark.parametrize("library", SCRIPTS)
def test_a_run_that_is_killed_is_there_as_far_as_it_was_written(
    library: str, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    quiet = {"TRACKIO_DIR": str(tmp_path / "trackio"), "WANDB_SILENT": "true", "WANDB_MODE": "offline"}
    writer = subprocess.Popen(
        [sys.executable, "-c", SCRIPTS[library] + LOOP],
        cwd=tmp_path,
        env={**os.environ, **quiet},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert writer.stdout is not None
        while (line := writer.stdout.readline()) and b"going" not in line:
            pass
        assert line, f"{library} ended by itself"
        seen = 0
        deadline = time.monotonic() + 60
        while seen < 20 and time.monotonic() < deadline:  # while it writes
            seen = imported(ledger, tmp_path)
            time.sleep(0.05)
        assert seen >= 20
    finally:
        os.killpg(writer.pid, signal.SIGKILL)
        writer.wait()
    last = imported(ledger, tmp_path)
    assert last >= seen
    assert imported(ledger, tmp_path) == last
    (run,) = runs.listed(ledger)
    curve = metrics.curve(ledger, run.id, "train/loss")
    assert curve.steps.tolist() == list(range(1, last + 1))
    assert curve.values.tolist() == pytest.approx([1.0 / step for step in range(1, last + 1)])


def imported(ledger: Ledger, folder: Path) -> int:
    """Import what lies there by now; how many points the run has."""
    try:
        readers = sources.find(folder).readers
    except Problem:  # nothing yet
        return 0
    for reader in readers:
        found = reader.read()
        if found is not None:
            assert found.troubles == ()
            adding.add(ledger, found, runs_folder=folder / "runs")
    there = runs.listed(ledger)
    return len(metrics.curve(ledger, there[0].id, "train/loss").steps) if there else 0
