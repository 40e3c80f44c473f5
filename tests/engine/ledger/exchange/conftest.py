"""Files as the real libraries wrote them: tensorboardX 2.6.5, torch 2.13's SummaryWriter, wandb 0.31.0 offline, trackio 0.43.0."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

FILES = Path(__file__).parent / "files"
EVENTS = FILES / "tb" / "events.out.tfevents.1795000000.box"
WANDB = FILES / "wandb" / "offline-run-20261119_101010-abcd1234" / "run-abcd1234.wandb"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's file of trackio's, with two runs."""
    path = tmp_path / "speech.db"
    connection = sqlite3.connect(path)
    connection.executescript((FILES / "trackio.sql").read_text(encoding="utf-8"))
    connection.close()
    return path
