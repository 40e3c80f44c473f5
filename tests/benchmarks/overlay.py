"""Eight curves of 100,000 points in one chart of 160x48, and the question which setting mattered: `python -m tests.benchmarks.overlay [--json]`.

Prints milliseconds and asserts nothing. `*_key` is what a key costs the event loop, the median and the worst; `metric_shown` is the time from the
key to the other metric's curves, which are read in a thread; `*_stall` the longest that the event loop stood still meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from textual.app import App

from engine.ledger import Ledger, forest, importance, metrics, runs
from engine.ledger.runs import Run
from screens.runs.overlay import OverlayScreen
from screens.session import Session
from tests.engine.ledger.test_importance import planted

RUNS, POINTS = 8, 100_000
PRESSES = 15
ASKED = 3_000  # runs that are asked which setting mattered
Figures = dict[str, float]


def trained(ledger: Ledger, folder: Path) -> list[Run]:
    """Runs with noisy losses, sealed as the engine leaves them."""
    made = []
    for number in range(RUNS):
        run = runs.create(
            ledger, name=f"run-{number}", runs_folder=folder, profile="", settings={"method.rank": number}
        )
        draw = np.random.default_rng(number)
        losses = 1 + np.exp(-np.arange(POINTS) / 20_000) + draw.normal(0, 0.05, POINTS)
        with metrics.Writer(ledger, run.id) as writer:
            for step, loss in enumerate(losses.tolist(), 1):
                writer.log(step, {"train/loss": loss, "train/grad_norm": loss / 2, "train/tokens": 1400.0 * step})
        made.append(run)
    return made


async def drawn(ledger: Ledger, folder: Path, chosen: list[Run]) -> Figures:
    """What keys cost."""
    app = App[None]()
    async with app.run_test(size=(160, 48)):
        over = OverlayScreen(Session(ledger, folder), chosen)
        began = time.perf_counter()
        await app.push_screen(over)
        found = {"first_curves": await _until(lambda: bool(over._snapshot.lines), began)}
        began, before = time.perf_counter(), over._snapshot.metric
        over.action_chart(1)
        found["metric_shown"] = await _until(lambda: over._snapshot.metric != before, began)
        for name, key in (
            ("cursor", lambda: over.action_cursor(-1)),
            ("log", over.action_logarithmic),
            ("front", over._draw),
        ):
            found |= _costs(name, key)
        over.action_smooth()
        await _until(lambda: over._snapshot.smoothed, began)
        return found | _costs("smoothed_cursor", lambda: over.action_cursor(-1))


async def _until(holds: Callable[[], bool], began: float) -> float:
    while not holds():
        await asyncio.sleep(0.001)
    return 1000 * (time.perf_counter() - began)


def _costs(name: str, key: Callable[[], None]) -> Figures:
    spent = []
    for _ in range(PRESSES):
        began = time.perf_counter()
        key()
        spent.append(1000 * (time.perf_counter() - began))
    return {f"{name}_key": statistics.median(spent), f"{name}_key_worst": max(spent)}


async def asked() -> Figures:
    """How long the answer takes, and how long the event loop stands still for it."""
    settings, losses = planted(ASKED)
    stalls: list[float] = []

    async def beat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.002)
            stalls.append(time.perf_counter() - before - 0.002)

    beating = asyncio.create_task(beat())
    began = time.perf_counter()
    study = await asyncio.to_thread(importance.study, settings, losses)
    studied = time.perf_counter()
    await asyncio.to_thread(forest.grown, study)
    grown = time.perf_counter()
    beating.cancel()
    return {"why": 1000 * (studied - began), "why_forest": 1000 * (grown - studied), "why_stall": 1000 * max(stalls)}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, Ledger.open(Path(place) / "ledger.db") as ledger:
        found = asyncio.run(drawn(ledger, Path(place), trained(ledger, Path(place)))) | asyncio.run(asked())
    rounded = {f"{name}_ms": round(figure, 1) for name, figure in found.items()}
    print(json.dumps(rounded) if options.json else "\n".join(f"{name:<24}{each:>10}" for name, each in rounded.items()))


if __name__ == "__main__":
    main()
