"""Which setting mattered, on screen and from a shell."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from textual.pilot import Pilot

from engine.ledger import Ledger, runs
from engine.ledger.importance import Setting
from engine.ledger.runs import Run
from screens.runs.why import WhyScreen
from screens.session import Session
from screens.widgets.table import Table
from tests.engine.ledger.test_importance import planted
from tests.screens.driving import screen, until
from workbench.app import WorkbenchApp
from workbench.cli import main


def trained(ledger: Ledger, folder: Path, count: int) -> list[Run]:
    """Runs with the planted losses, written as a summary alone."""
    settings, losses = planted(count)
    made = [
        runs.create(ledger, name=f"run-{place}", runs_folder=folder, profile="", settings=each)
        for place, each in enumerate(settings)
    ]
    with ledger.transaction() as connection:
        for place, name in enumerate(("validation/loss", "train/loss"), 1):
            connection.execute("INSERT INTO key (id, name) VALUES (?, ?)", (place, name))
            connection.executemany(
                "INSERT INTO series (run, key, n, gaps, last, last_step, min, min_step) VALUES (?, ?, 1, 0, ?, 1, ?, 1)",
                [(run.id, place, loss, loss) for run, loss in zip(made, losses, strict=True)],
            )
    return made


def rows(pilot: Pilot[None]) -> list[str]:
    found = pilot.app.screen.query_one(Table).rows
    return [each.names[0] for each in found if isinstance(each, Setting)]


async def opened(pilot: Pilot[None], session: Session, chosen: list[Run]) -> None:
    pilot.app.push_screen(WhyScreen(session, chosen, "validation/loss"))
    await until(pilot, lambda: pilot.app.screen.query(Table) and "asking" not in screen(pilot))


async def test_what_mattered_comes_first_with_what_chance_could_do(ledger: Ledger, tmp_path: Path) -> None:
    session, chosen = Session(ledger, tmp_path), trained(ledger, tmp_path, 60)
    async with WorkbenchApp(session).run_test(size=(100, 30)) as pilot:
        await opened(pilot, session, chosen)
        await until(pilot, lambda: "A forest foretells" in screen(pilot))
        assert rows(pilot)[0] == "training.learning_rate", "the forest knows the bowl"
        assert "training.learning_rate, training.schedule and method.alpha had to do with the best" in screen(pilot)
        assert "Left out: 1 setting is the same in all; data.0.source differs in nearly every run." in screen(pilot)
        assert "Few runs" not in screen(pilot)
        await pilot.press("]")
        await until(pilot, lambda: "the last validation/loss" in screen(pilot))
        await pilot.press("]")
        await until(pilot, lambda: "the best train/loss" in screen(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, WhyScreen))


async def test_the_values_of_a_setting_are_told_under_the_table(ledger: Ledger, tmp_path: Path) -> None:
    session, chosen = Session(ledger, tmp_path), trained(ledger, tmp_path, 60)
    async with WorkbenchApp(session).run_test(size=(100, 30)) as pilot:
        await opened(pilot, session, chosen)
        await until(pilot, lambda: "A forest foretells" in screen(pilot))
        await pilot.press("g")
        for _ in range(rows(pilot).index("training.schedule")):
            await pilot.press("j")
        await until(pilot, lambda: "constant " in screen(pilot) and "cosine" in screen(pilot))
        told = [line.split()[0] for line in screen(pilot).splitlines() if "median" in line]
        assert told[-1] == "constant", "a choice's values are told from the best on"


async def test_few_runs_are_warned_of(ledger: Ledger, tmp_path: Path) -> None:
    session, chosen = Session(ledger, tmp_path), trained(ledger, tmp_path, 6)
    async with WorkbenchApp(session).run_test(size=(100, 30)) as pilot:
        await opened(pilot, session, chosen)
        await until(pilot, lambda: "! Few runs: a correlation below" in screen(pilot))
        assert "A forest needs 10 runs." in screen(pilot)


async def test_runs_without_the_metric_say_nothing(ledger: Ledger, tmp_path: Path) -> None:
    session = Session(ledger, tmp_path)
    bare = [runs.create(ledger, name="bare", runs_folder=tmp_path, profile="", settings={}) for _ in range(3)]
    async with WorkbenchApp(session).run_test(size=(100, 30)) as pilot:
        await opened(pilot, session, bare)
        await until(pilot, lambda: "0 runs with a best validation/loss say nothing of settings" in screen(pilot))
        await pilot.press("]", "[")
        await until(
            pilot,
            lambda: "0 runs with a best validation/loss" in screen(pilot),
            "there is no other metric to ask about",
        )


def test_from_a_shell(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(ledger, tmp_path, 60)
    assert main(["runs", "why", "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert found["runs"] == 60 and found["metric"] == "validation/loss" and found["which"] == "best"
    assert found["settings"][0]["names"] == ["training.learning_rate"] and found["settings"][0]["share"] > 0.5
    assert main(["runs", "why", "--filter", "name~run-1", "--metric", "train/loss"]) in (0, 1)
    told = capsys.readouterr()
    assert "the last train/loss of 11 runs" in told.out and "Few runs" in told.err
    assert main(["runs", "why", "--metric", "lossy"]) == 2
    assert "lossy is no metric" in capsys.readouterr().err
    assert main(["runs", "why", "--filter", "name~nothing"]) == 1, "nothing can be told"
