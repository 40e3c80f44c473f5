"""Keys on Configure while a 7B model is simulated, in a real pseudo-terminal: `python -m tests.benchmarks.configure_keys [--json]`.

Prints figures and asserts nothing. Keys are timed until the first byte of the answer, and only those that were pressed while the screen said
"being simulated"; `simulated` is the time from a new value to its simulated figures, with the child cold (the first) and warm.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from engine.ledger import Ledger
from engine.profile_file import dump, updated
from tests.benchmarks.browsing import answer
from tests.journeys.place import PROGRAM
from tests.journeys.terminal import Terminal
from tests.tiny import tiny_profile, write_rows

SEVEN: Final = "meta-llama/Llama-2-7b-hf"  # its shape ships
RANKS: Final = ("8", "24", "40", "56")
RUNNING, DONE = "being simulated", r"(?<!being )\bsimulated\b"
MOVES: Final = "jjjjjjjjjjkkkkkkkkkk"
FIRST_START: Final = "two places"
Figures = dict[str, float | int]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"WORKBENCH_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
        prepare(folder)
        figures = measure(folder)
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key.replace('_', ' '):30} {value:>10,.1f}")


def prepare(folder: Path) -> None:
    """A profile of a 7B model on some rows, and a ledger."""
    Ledger.open(folder / "home" / "ledger.db").close()
    profile = dump(tiny_profile(folder, write_rows(folder / "rows.jsonl", 32)))
    wanted = {"model.base": SEVEN, "model.dtype": "bfloat16", "template.name": "alpaca", "template.max_tokens": 512}
    wanted |= {"hardware.device": "auto", "training.checkpoint_activations": True, "training.micro_batch": 2}
    (folder / "seven.toml").write_text(updated(profile, wanted), encoding="utf-8")


def measure(folder: Path) -> Figures:
    """Open the profile, and give its adapter one rank after the other."""
    figures: Figures = {}
    taken: dict[str, list[float]] = {"move": [], "type": []}
    until_simulated: list[float] = []
    with Terminal([PROGRAM], rows=48, columns=160, folder=folder) as terminal:
        terminal.until(FIRST_START)
        terminal.press("\r")
        terminal.until("No runs yet")
        terminal.press("3")
        terminal.until(r"seven\.toml")
        begun = time.perf_counter()
        terminal.press("G\r")
        terminal.until(DONE)
        figures["simulated_cold_s"] = time.perf_counter() - begun
        to_rank(terminal)
        for rank in RANKS:
            for key in ("\r", "\x05", "\x15", *rank):
                press(terminal, key, taken["type"])
            begun = time.perf_counter()
            terminal.press("\r")
            terminal.until(f"{RUNNING}|rank +{rank} ")
            for key in MOVES:
                press(terminal, key, taken["move"])
            terminal.until(DONE)
            until_simulated.append(time.perf_counter() - begun)
        terminal.press("\x11")
        terminal.until("Leave and lose")
        terminal.press("y")
        terminal.wait()
    figures |= {
        "simulated_warm_p50_s": statistics.median(until_simulated),
        "simulated_warm_worst_s": max(until_simulated),
    }
    for kind, times in taken.items():
        figures |= {f"{kind}_keys_while_simulating": len(times)}
        if times:
            figures |= {f"{kind}_p50_ms": statistics.median(times), f"{kind}_worst_ms": max(times)}
    return figures


def to_rank(terminal: Terminal) -> None:
    """The cursor on the adapter's rank."""
    terminal.press("g")
    while not re.search(r"▌\s+rank ", terminal.text):
        answer(terminal, "j")


def press(terminal: Terminal, key: str, times: list[float]) -> None:
    """Time a key if it is pressed while something is simulated."""
    running = RUNNING in terminal.text
    first, _ = answer(terminal, key)
    if running:
        times.append(first)


if __name__ == "__main__":
    main()
