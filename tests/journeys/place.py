"""A user of the installed program: a home, a working folder, commands, and what the ledger says."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.ledger import Ledger, jobs, runs
from engine.ledger.runs import Run

PROGRAM: Final = str(Path(sys.executable).with_name("workbench"))
DEADLINE: Final = 120.0  # seconds; a cold start of torch, transformers and peft takes many on a busy machine
LOOK: Final = 0.05  # seconds between two looks


@dataclass(frozen=True)
class Place:
    """A user's home and working folder."""

    home: Path
    folder: Path

    @property
    def profile(self) -> Path:
        """The profile that is trained."""
        return self.folder / "tiny.toml"

    def ledger(self) -> Ledger:
        """The user's ledger, to look at."""
        return Ledger.open(self.home / "ledger.db", read_only=True)

    def run(self, name: str) -> Run:
        """A run as the ledger has it now."""
        with self.ledger() as ledger:
            return runs.find(ledger, name)

    def pid(self, name: str) -> int:
        """The engine process that trains a run."""
        with self.ledger() as ledger:
            pid = jobs.of_run(ledger, runs.find(ledger, name).id)[-1].pid
        assert pid is not None
        return pid

    def wait(self, name: str, wanted: Callable[[Run], object]) -> Run:
        """The run once it is as wanted."""
        for _ in range(round(DEADLINE / LOOK)):  # looks are counted, not the time: a machine may stand still
            if wanted(run := self.run(name)):
                return run
            time.sleep(LOOK)
        raise AssertionError(f"not as wanted: {run}\n{log_of(run)}")

    def command(self, *arguments: str, code: int = 0) -> str:
        """What `workbench ARGUMENTS` prints; it must end with `code`."""
        done = subprocess.run(
            [PROGRAM, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def figures(self, *arguments: str) -> Any:
        """The same with --json, read."""
        return json.loads(self.command(*arguments, "--json"))


def log_of(run: Run) -> str:
    """The end of a run's log."""
    log = run.folder / "log.txt"
    return log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"
