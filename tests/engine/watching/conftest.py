"""A real Trainer in a process of its own, to be watched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tiny import make_llama

PATIENCE = 150.0  # seconds until a test gives up waiting; a busy machine takes many of them to import torch
TRAINEE = Path(__file__).with_name("trainee.py")
ROOT = Path(__file__).resolve().parents[3]

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """What the trainee trains into."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def start(tmp_path: Path, out: Path) -> Iterator[Start]:
    """Start a trainee of so many steps, with its options; its output goes to out.txt beside its folder."""
    base = make_llama(tmp_path / "base")
    started: list[subprocess.Popen[bytes]] = []

    def begin(steps: int, *options: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        with (tmp_path / "out.txt").open("ab") as output:
            command = [sys.executable, str(TRAINEE), str(base), str(out), str(steps), *options]
            child = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=tmp_path)
        started.append(child)
        return child

    yield begin
    for child in started:
        child.kill()
        child.wait()


def until(true: Callable[[], object], what: str) -> None:
    """Wait until it is so."""
    over = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < over, f"waited in vain for {what}"
        time.sleep(0.1)


def logged(out: Path, steps: int) -> dict[str, dict[int, float]]:
    """What Trainer itself says that it logged, by its own keys."""
    found: dict[str, dict[int, float]] = {}
    for row in json.loads((out / f"checkpoint-{steps}" / "trainer_state.json").read_text())["log_history"]:
        for key, value in row.items():
            found.setdefault(key, {})[row["step"]] = value
    return found
