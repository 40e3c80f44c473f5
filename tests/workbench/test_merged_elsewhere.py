"""Runs of another machine, whose files are not here: they are looked at as any other, and what needs their machine says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.ledger import Ledger, merging, orders, runs
from engine.ledger.states import State
from tests.screens.driving import last_line, screen, until
from tests.screens.example import NOW, example
from workbench import cli
from workbench.app import WorkbenchApp


@pytest.fixture
def app(ledger: Ledger, tmp_path: Path) -> WorkbenchApp:
    """The application on a ledger into which a box's was merged, a while ago."""
    with Ledger.open(tmp_path / "box.db") as box:
        four = example(box, tmp_path / "runs")
        with box.transaction() as connection:
            connection.execute("UPDATE job SET host = 'gpubox', boot_id = 'theirs', pid_namespace = 'theirs'")
            connection.execute("UPDATE job SET created = ?1, heartbeat = ?1", (NOW - 600,))
            connection.execute("UPDATE run SET folder = '/data/workbench/runs/' || uid")
    merging.merge(ledger, box.path)
    return WorkbenchApp(replace(four.session, ledger=ledger))


async def test_every_screen_shows_them(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "52/84" in screen(pilot))
        await until(pilot, lambda: "as of" in screen(pilot) and "on gpubox" in screen(pilot))
        await pilot.press("4")
        await until(pilot, lambda: "checkpoint 50 saved" in screen(pilot))
        await pilot.press("3")
        await until(pilot, lambda: "like this run" in screen(pilot))
        await pilot.press("5")
        await until(pilot, lambda: "compare" in screen(pilot))
        await pilot.press("1", "enter")
        await until(pilot, lambda: "not on this machine" in screen(pilot))


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("pubmedqa-lora-16", "P", "takes no orders from here: it is running on gpubox"),
        ("pubmedqa-lora-64", "E", "The result of pubmedqa-lora-64 is not on this machine"),
        ("healthcare-full", "R", "was trained on gpubox"),
    ],
)
async def test_what_only_their_machine_can_do_is_refused(app: WorkbenchApp, name: str, key: str, said: str) -> None:
    places = ["pubmedqa-lora-16", "pubmedqa-lora-64", "speech-dora", "healthcare-full"]
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "52/84" in screen(pilot))
        await pilot.press(*"j" * places.index(name), key)
        if key == "E":
            await until(pilot, lambda: "suites for" in screen(pilot))
            await pilot.press("enter")
        await until(pilot, lambda: said in " ".join(screen(pilot).split()) or said in last_line(pilot))


def test_an_order_that_would_not_arrive_is_not_given(
    app: WorkbenchApp, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs.find(ledger, "pubmedqa-lora-16")
    assert run.state is State.RUNNING
    assert cli.main(["runs", "stop", run.name]) == 2
    assert "Give the order on gpubox" in capsys.readouterr().err
    assert orders.waiting(ledger, run.id) == []
