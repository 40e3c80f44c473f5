"""What telling and obeying cost a step: `python -m tests.benchmarks.overhead [--json]`.

A real job of a tiny model trains in this process, and the CPU time that a step of the real loop spends beside its arithmetic is taken:
what it tells the ledger (metrics, progress, memory), the orders that it looks for, and the CPU time of the thread that writes the metrics
meanwhile. Steps are stretched to 50 ms, since some of this happens so often a second. It is to be at most 1 %. Prints figures
and asserts nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from engine.ledger.writer import Writer
from engine.train import step
from engine.train.control import Control
from engine.train.tell import Teller
from engine.train.watch import Clock
from tests.benchmarks import ours, ragged
from tests.benchmarks.compared import PLAIN, profile

STEP: Final = 0.05  # seconds
TOLD: Final = (
    (Teller, "step"),
    (Teller, "timings"),
    (Teller, "oddities"),
    (Teller, "where"),
    (Control, "due"),
    (Clock, "lap"),
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    spent: dict[str, list[float]] = {name: [] for _, name in TOLD}
    for place, name in TOLD:
        setattr(place, name, timed(getattr(place, name), spent[name]))
    written: list[float] = []
    drain = Writer._drain

    def drained(self: Writer) -> None:
        drain(self)
        written.append(time.thread_time())  # the CPU time of the thread that writes metrics

    Writer._drain = drained
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base = ragged.base(folder / "base", "tiny")
        data = ragged.rows(folder / "rows.jsonl", ragged.lengths(options.steps, seed=7), seed=7)
        shape: dict[str, Any] = {"max_steps": options.steps, "effective_batch": 1, "micro_batch": 1, "packing": False}
        chosen = profile(base, data, PLAIN, "lora", **shape)
        step.update = stretched(step.update)
        marks = ours.train(folder / "run", chosen).marks
    steps = options.steps
    figures: dict[str, Any] = {f"{name}_us": sum(values) / steps * 1e6 for name, values in spent.items()}
    figures["loop_us"] = sum(figures.values())
    figures["loop_share_of_50_ms"] = figures["loop_us"] / 1e6 / STEP
    figures["writer_cpu_us"] = sum(written) / steps * 1e6
    figures["per_step_us"] = figures["loop_us"] + figures["writer_cpu_us"]
    figures["median_step_ms"] = (
        statistics.median(b - a for a, b in zip(marks.clock, marks.clock[1:], strict=False)) * 1e3
    )
    figures["share_of_50_ms"] = figures["per_step_us"] / 1e6 / STEP
    if options.json:
        print(json.dumps(figures, indent=1))
        return
    for key, value in figures.items():
        print(f"{key.replace('_', ' '):24} {value:>12,.4f}")


def timed(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """The function, with the CPU time of each call noted: neighbours on the machine disturb it less than the clock."""

    def call(*arguments: Any, **named: Any) -> Any:
        begun = time.thread_time()
        try:
            return function(*arguments, **named)
        finally:
            spent.append(time.thread_time() - begun)

    return call


def stretched(update: Callable[..., None]) -> Callable[..., None]:
    """The update, at least 50 ms behind the one before, as in a model whose arithmetic takes that long."""
    last = [time.perf_counter()]

    def call(*arguments: Any) -> None:
        update(*arguments)
        time.sleep(max(0.0, last[0] + STEP - time.perf_counter()))
        last[0] = time.perf_counter()

    return call


if __name__ == "__main__":
    main()
