"""Screens are driven in a terminal of which everything is known: colours, locale, time zone, GPUs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.ledger import Ledger
from tests.screens.example import Example, example


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A terminal with all colours, UTF-8 and UTC."""
    for name, value in {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8", "TZ": "UTC"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def four(ledger: Ledger, tmp_path: Path) -> Example:
    """Runs that are running, finished, lost and failed."""
    return example(ledger, tmp_path / "runs")
