"""What journeys start from: a tiny base model, rows and a profile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import machine
from engine.ledger import Ledger, jobs
from engine.profile_file import dump
from tests.journeys.place import Place
from tests.tiny import tiny_profile, write_rows


@pytest.fixture
def place(home: Path, tmp_path: Path, tiny_base: Path) -> Iterator[Place]:
    """A user with a tiny base model and 48 rows; the run has 120 steps of some tens of milliseconds."""
    made = Place(home, tmp_path)
    rows = write_rows(tmp_path / "rows.jsonl", 48)
    settings = {"training.max_steps": 120, "training.save_every": 10, "training.evaluate_every": 20, "split.test": 0.25}
    made.profile.write_text(dump(tiny_profile(tiny_base, rows, **settings)))
    yield made
    end_engines(home)


def end_engines(home: Path) -> None:
    """No engine outlives its test."""
    if not (home / "ledger.db").exists():
        return
    with Ledger.open(home / "ledger.db", read_only=True) as ledger:
        found = [job for job in jobs.live(ledger) if job.pid]
    for job in found:
        assert job.pid is not None
        if machine.started(job.pid) == job.pid_started:
            os.kill(job.pid, 9)
