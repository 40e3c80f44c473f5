"""Looking through thousands of runs in a real pseudo-terminal of 120x40: `python -m tests.benchmarks.browsing [--runs N] [--json]`.

Prints figures and asserts nothing. Of each kind of key there is the median and the worst of two times: until the first byte of the answer, and until
all that it changes has been drawn (`drawn`: the table, and what is said of the run under the cursor).
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import psutil

from engine.ledger import Ledger
from tests.benchmarks.many_runs import fill
from tests.journeys.place import PROGRAM
from tests.journeys.terminal import Terminal

IDLE: Final = 5.0  # seconds
QUIET: Final = 0.15  # seconds without a byte after which all has been drawn
FILTER: Final = "state=fin loss<1.2 lr>=1e-4 model~llama tag:medical"
PAGE_DOWN, PAGE_UP, ENTER, ESCAPE = "\x1b[6~", "\x1b[5~", "\r", "\x1b"
KEYS: Final[dict[str, Sequence[str]]] = {
    "scroll": ("j",) * 30 + ("k",) * 10 + (PAGE_DOWN,) * 10 + (PAGE_UP,) * 5 + ("G", "g") * 3,
    "sort": ("<", "r", "<", "r", "<", "r", "<", "<", "<", ">", ">", ">", ">", ">", ">"),
    "filter": tuple(FILTER),
    "unfilter": ("\x7f",) * len(FILTER),
    "fold": ("(", ")", ")", "(", ")", ")", "(", ")", ")", "(", "("),
}
Figures = dict[str, float | int]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"WORKBENCH_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
        with Ledger.open(folder / "home" / "ledger.db") as ledger:
            fill(ledger, folder / "home" / "runs", options.runs)
        figures: Figures = {"runs": options.runs, **measure(folder)}
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key.replace('_', ' '):30} {value:>10,.1f}")


def measure(folder: Path) -> Figures:
    """Start, rest, keys."""
    figures: Figures = {}
    begun = time.perf_counter()
    with Terminal([PROGRAM], rows=40, columns=120, folder=folder) as terminal:
        terminal.until(r"▌ \S+-\d+")
        figures["first_paint_ms"] = (time.perf_counter() - begun) * 1e3
        terminal.settled(1.0)
        figures["settled_ms"] = (time.perf_counter() - begun - 1.0) * 1e3
        before = terminal.sent
        time.sleep(IDLE)
        terminal.read()
        figures["idle_bytes"] = terminal.sent - before
        for kind, keys in KEYS.items():
            if kind == "filter":
                answer(terminal, "/")
            figures |= timed(terminal, kind, keys)
            if kind == "unfilter":
                answer(terminal, ESCAPE)
        process = psutil.Process(terminal.pid)
        figures["rss_mib"] = (
            sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 2**20
        )
        terminal.press("\x11")
        terminal.wait()
    return figures


def timed(terminal: Terminal, kind: str, keys: Iterable[str]) -> Figures:
    """Median and worst of a kind of key."""
    taken = [answer(terminal, key) for key in keys]
    first, drawn = [one for one, _ in taken], [all_of_it for _, all_of_it in taken]
    return {
        f"{kind}_p50_ms": statistics.median(first),
        f"{kind}_worst_ms": max(first),
        f"{kind}_drawn_p50_ms": statistics.median(drawn),
        f"{kind}_drawn_worst_ms": max(drawn),
    }


def answer(terminal: Terminal, key: str) -> tuple[float, float]:
    """Milliseconds from a key to the first byte that comes back, and to the last one; keys that change nothing are answered at once."""
    terminal.read()
    begun = time.perf_counter()
    terminal.press(key)
    times: list[float] = []
    while select.select([terminal], [], [], QUIET if times else 0.5)[0]:
        if not terminal.read():
            break
        times.append((time.perf_counter() - begun) * 1e3)
    return (times[0], times[-1]) if times else (0.0, 0.0)


if __name__ == "__main__":
    main()
