"""How the application feels in a real pseudo-terminal of 120x40: `python -m tests.benchmarks.screens [--json]`.

Prints figures and asserts nothing: the time to the first picture of the table of runs, the bytes that each screen sends in
five seconds in which nothing happens, and the time from a key to the first byte of the answer.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import select
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from engine.ledger import Ledger, jobs, metrics, runs
from engine.ledger.states import State
from engine.profile import flat
from engine.profile_file import dump
from tests.journeys.place import PROGRAM
from tests.journeys.terminal import Terminal
from tests.journeys.whole import SCREENS
from tests.tiny import make_llama, tiny_profile, write_rows

IDLE: Final = 5.0  # seconds
MOVES: Final = {"Runs": ("j", "k"), "Monitor": ("<", ">")}
PRESSES: Final = 40
Figures = dict[str, float | int]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"WORKBENCH_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
        fill(folder, options.runs)
        figures = measure(folder)
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key.replace('_', ' '):36} {value:>10,.1f}")


def fill(folder: Path, count: int) -> None:
    """A ledger of finished runs, each with curves."""
    profile = tiny_profile(make_llama(folder / "base"), write_rows(folder / "rows.jsonl", 48))
    with Ledger.open(folder / "home" / "ledger.db") as ledger:
        for number in range(count):
            run = runs.create(
                ledger,
                name=f"speech-{number}",
                runs_folder=folder / "home" / "runs",
                profile=dump(profile),
                settings=flat(profile),
                steps=1000,
            )
            run.folder.mkdir(parents=True)
            job = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
            with metrics.Writer(ledger, run.id) as log:
                for step in range(1, 1001 if number == count - 1 else 20):
                    loss = 1 + 4 * math.exp(-step / 200) + 0.1 * math.sin(step + number)
                    log.log(step, {"train/loss": loss, "train/grad_norm": 1 / loss, "validation/loss": loss + 0.1})
            runs.progress(ledger, run, step=1000, steps=1000, ends=None)
            jobs.set_state(ledger, jobs.sign_in(ledger, job, pid=os.getpid()), State.FINISHED)
        with ledger.transaction() as connection:  # of days ago, so that their ages do not change while they are watched
            connection.execute("UPDATE run SET created = created - 300000")


def measure(folder: Path) -> Figures:
    """Start, rest, keys."""
    figures: Figures = {}
    begun = time.perf_counter()
    with Terminal([PROGRAM], rows=40, columns=120, folder=folder) as terminal:
        terminal.until(r"speech-\d+")
        figures["first_picture_ms"] = (time.perf_counter() - begun) * 1e3
        terminal.settled(1.0)
        for name in (*SCREENS[1:], SCREENS[0]):
            key, press = SCREENS.index(name) + 1, MOVES.get(name)
            figures[f"{name}_opens_ms"] = answer(terminal, str(key))
            terminal.until(re.escape(f"[{key} {name}]"))
            terminal.settled(1.0)
            before = terminal.sent
            time.sleep(IDLE)
            terminal.read()
            figures[f"{name}_idle_bytes"] = terminal.sent - before
            if press:
                taken, sent = [], terminal.sent
                for number in range(PRESSES):
                    taken.append(answer(terminal, press[number // 8 % 2]))
                    terminal.settled(0.1)
                figures[f"{name}_key_p50_ms"] = statistics.median(taken)
                figures[f"{name}_key_worst_ms"] = max(taken)
                figures[f"{name}_bytes_a_key"] = (terminal.sent - sent) / PRESSES
        terminal.press("\x11")
        begun = time.perf_counter()
        terminal.wait()
        figures["leaves_ms"] = (time.perf_counter() - begun) * 1e3
    return figures


def answer(terminal: Terminal, key: str) -> float:
    """Milliseconds from a key to the first byte that comes back."""
    terminal.read()
    begun = time.perf_counter()
    terminal.press(key)
    select.select([terminal], [], [], 2.0)
    return (time.perf_counter() - begun) * 1e3


if __name__ == "__main__":
    main()
