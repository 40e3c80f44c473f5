"""What is known of marked runs, written to a file from the Runs screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.ledger import Ledger, runs
from tests.screens.driving import last_line, until
from tests.screens.example import Example
from tests.screens.test_runs import choose
from workbench.app import WorkbenchApp


async def test_marked_runs_are_written_to_a_file_that_is_replaced_only_when_told(
    four: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with WorkbenchApp(four.session).run_test(size=(160, 48)) as pilot:
        for name in ("pubmedqa-lora-16", "healthcare-full"):
            await choose(pilot, name)
            await pilot.press("space")
        await pilot.press("x")
        await until(pilot, lambda: "what is known of 2 runs" in last_line(pilot))
        await pilot.press(*["backspace"] * len("runs.csv"), *"two.db", "enter")
        await until(pilot, lambda: "2 runs:" in last_line(pilot) and "two.db" in last_line(pilot))
        with Ledger.open(tmp_path / "two.db", read_only=True) as opened:
            assert {run.name for run in runs.listed(opened)} == {"pubmedqa-lora-16", "healthcare-full"}

        before = (tmp_path / "two.db").stat().st_mtime_ns
        await pilot.press("x", *["backspace"] * len("runs.csv"), *"two.db", "enter")
        await until(pilot, lambda: "is there already. Replace it?" in last_line(pilot))
        await pilot.press("n")
        await pilot.press("x", *["backspace"] * len("runs.csv"), *"two.txt", "enter")
        await until(pilot, lambda: "does not say what it is to be" in last_line(pilot))
        assert (tmp_path / "two.db").stat().st_mtime_ns == before
        assert not (tmp_path / "two.txt").exists()
