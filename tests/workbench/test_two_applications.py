"""Two applications on one ledger: what one does the other shows, and neither loses anything."""

from __future__ import annotations

from pathlib import Path

from engine.ledger import Ledger, runs
from screens.runs.note import NoteScreen
from screens.session import Session
from tests.screens.driving import screen, until
from tests.screens.example import example
from workbench.app import WorkbenchApp


async def test_what_one_does_the_other_shows(ledger: Ledger, tmp_path: Path) -> None:
    oldest = example(ledger, tmp_path / "runs").runs["healthcare-full"]
    with Ledger.open(ledger.path) as other_ledger:
        one = WorkbenchApp(Session(ledger, tmp_path / "runs"))
        other = WorkbenchApp(Session(other_ledger, tmp_path / "runs"))
        async with one.run_test(size=(80, 24)) as first, other.run_test(size=(160, 48)) as second:
            for pilot in (first, second):
                await until(pilot, lambda pilot=pilot: oldest.name in screen(pilot))
                await pilot.press("G")  # the oldest run
            await first.press("n")
            await until(first, lambda: isinstance(first.app.screen, NoteScreen))
            await first.press(*"slow", "ctrl+o")
            await until(second, lambda: "slow" in screen(second), "the note in the other application")
            await second.press("D")
            await until(second, lambda: "Delete" in screen(second), "the question")
            await second.press("y")
            await until(first, lambda: oldest.name not in screen(first), "the run gone from the first application")
    assert oldest.name not in [run.name for run in runs.listed(ledger)]
    assert len(runs.listed(ledger)) == 3
