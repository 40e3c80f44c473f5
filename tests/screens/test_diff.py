"""What runs differ in, side by side, and nothing else."""

from __future__ import annotations

from pathlib import Path

from textual.pilot import Pilot

from engine.ledger import Ledger, differences, metrics, runs
from engine.ledger.runs import Run
from screens.runs.diff import DiffScreen
from screens.session import Session
from tests.screens.driving import screen, until
from tests.screens.example import settings
from workbench.app import WorkbenchApp


def made(ledger: Ledger, folder: Path, name: str, loss: float, torch: str, **changed: object) -> Run:
    run = runs.create(ledger, name=name, runs_folder=folder, profile="", settings=settings(**changed))
    with metrics.Writer(ledger, run.id) as writer:
        writer.log(1, {"validation/loss": loss, "train/grad_norm": 1.0})
    around = {"packages": {"torch": torch, "peft": "0.21"}, "work": {"tokens": loss}, "lineage": [{"name": name}]}
    runs.record(ledger, run, environment=around, fingerprints={"data": "aa", "result": name})
    return run


def three(ledger: Ledger, folder: Path) -> list[Run]:
    source = f"/data/{'very/' * 12}long.jsonl"
    return [
        made(ledger, folder, "first", 0.9, "2.13"),
        made(ledger, folder, "second", 0.8, "2.13", method__rank=64),
        made(ledger, folder, "third", 0.7, "2.14", method__rank=64, data__0__source=source),
    ]


def test_what_was_done_comes_before_what_it_was_done_to_and_outcomes_first(ledger: Ledger, tmp_path: Path) -> None:
    found = differences.between(ledger, three(ledger, tmp_path))
    assert [(each.topic, each.key) for each in found] == [
        ("best", "validation/loss"),
        ("setting", "method.rank"),
        ("setting", "data.0.source"),
        ("environment", "packages.torch"),
    ]
    assert found[0].values == (0.9, 0.8, 0.7) and found[1].values == (16, 64, 64)


async def opened(pilot: Pilot[None], session: Session, chosen: list[Run]) -> None:
    pilot.app.push_screen(DiffScreen(session, chosen))
    await until(pilot, lambda: "reading" not in screen(pilot) and "first" in screen(pilot))


async def test_three_runs_side_by_side(ledger: Ledger, tmp_path: Path) -> None:
    session, chosen = Session(ledger, tmp_path), three(ledger, tmp_path)
    async with WorkbenchApp(session).run_test(size=(120, 30)) as pilot:
        await opened(pilot, session, chosen)
        shown = screen(pilot)
        assert "2 settings differ between 3 runs, and 1 of data, versions and machine" in shown
        for words in ("validation/loss .900 .800 .700", "method.rank 16 64 64", "packages.torch 2.13 2.13 2.14"):
            assert words in " ".join(shown.split())
        assert "epochs" not in shown and "peft" not in shown and "tokens" not in shown, "what is equal is left out"
        await pilot.press(*"jjjj")
        await until(pilot, lambda: f"third  /data/{'very/' * 12}long.jsonl" in screen(pilot), "the whole value")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, DiffScreen))


async def test_runs_with_nothing_between_them(ledger: Ledger, tmp_path: Path) -> None:
    session = Session(ledger, tmp_path)
    chosen = [made(ledger, tmp_path, name, 0.5, "2.13") for name in ("first", "first-again")]
    async with WorkbenchApp(session).run_test(size=(100, 24)) as pilot:
        await opened(pilot, session, chosen)
        assert "These 2 runs have the same settings, data, versions and machine." in screen(pilot)
