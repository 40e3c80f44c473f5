"""A run that another program trains, on the screens: shown as any other, and orders are refused in words."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine import machine
from engine.errors import Problem
from engine.ledger import Ledger, metrics, orders, runs
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.watching.processes import process
from engine.watching.story import Story
from screens.session import Session
from tests.screens.driving import screen, until
from workbench.app import WorkbenchApp
from workbench.cli import main


@pytest.fixture
def watched(ledger: Ledger, tmp_path: Path) -> Run:
    """A watched run at step 8 of 30, trained by this very process."""
    told = Story.begin(ledger, tmp_path, name="theirs", runs_folder=tmp_path / "runs", created=None)
    told.attend(process(os.getpid()), tmp_path, machine.here().host)
    told.progress(step=8, steps=30, ends=None, gpu="H200", newest=1.0)
    told.state(State.RUNNING)
    with metrics.Writer(ledger, told.run.id) as writer:
        for step in range(1, 9):
            writer.log(step, {"train/loss": 1 / step})
    return told.seen()


async def test_it_is_shown_and_takes_no_orders(ledger: Ledger, tmp_path: Path, watched: Run) -> None:
    app = WorkbenchApp(Session(ledger, tmp_path / "runs"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "theirs" in screen(pilot))
        await pilot.press("4")
        await until(pilot, lambda: "8/30" in screen(pilot))
        for key in "PCSFR":
            await pilot.press(key)
            await until(pilot, lambda: "takes no orders" in screen(pilot), f"the refusal of {key}")
            await pilot.press("[")
    assert orders.waiting(ledger, watched.id) == []


def test_the_command_line_refuses_orders_and_resuming(
    ledger: Ledger, watched: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("stop", "pause", "checkpoint", "resume"):
        assert main(["runs", verb, "theirs"]) == 2
        assert "Workbench" in capsys.readouterr().err
    with pytest.raises(Problem, match="takes no orders") as refused:
        orders.give(ledger, watched.id, "stop")
    assert f"process {os.getpid()}" in refused.value.do
    assert main(["runs", "show", "theirs", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["step"], shown["steps"]) == ("running", 8, 30)
    assert [run.uid for run in runs.listed(ledger)] == [watched.uid]
