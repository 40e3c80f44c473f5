"""Predicted memory against what a GPU measures: `python -m tests.benchmarks.gpu_memory [--json]`.

Llamas of 1 to 8 billion random weights are trained a few steps by the engine, each in a process of its own as `workbench train` starts it,
with the GPU to itself; then every figure that the run recorded is held against what is predicted of it (`workbench fit --check`):

    allocated, reserved   what torch's allocator counted, at most
    process               what the driver says that the process held (NVML), CUDA's context among it

What does not fit the GPU is left out. Without a GPU a tiny model goes through all of it on the CPU with --stand-in, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from engine import launch, turns
from engine.errors import Problem
from engine.fit.check import check
from engine.fit.simulator import Simulator
from engine.gpu import Gpu, gpus
from engine.ledger import Ledger, jobs, runs
from engine.ledger.states import LIVE, State
from engine.profile import Profile, changed
from tests.benchmarks import ragged
from tests.benchmarks.compared import PLAIN, profile

BATCH: Final = 8  # examples of a step, of which half go through at once
STEPS: Final = 3
ROWS: Final = 40
FIGURES: Final = ("allocated", "reserved", "process")
Figures = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """What is trained: a shape of `ragged.SHAPES`, and how."""

    shape: str
    method: str = "lora"
    quantization: str = "none"
    checkpointing: bool = True
    packing: bool = True

    @property
    def name(self) -> str:
        """In a few words."""
        words = [self.shape, self.method, *([self.quantization] if self.quantization != "none" else [])]
        words += [] if self.checkpointing else ["no recomputation"]
        return " ".join(words if self.packing else [*words, "padded"])


CASES: Final = (
    Case("1b", checkpointing=False),
    Case("1b", checkpointing=False, packing=False),
    Case("1b", quantization="nf4"),
    Case("1b", "full", checkpointing=False),
    Case("3b"),
    Case("3b", quantization="nf4"),
    Case("3b", "full"),
    Case("8b"),
    Case("8b", checkpointing=False),
    Case("8b", quantization="nf4"),
    Case("8b", quantization="int8"),
)
TINY: Final = (Case("tiny"), Case("tiny", "full", checkpointing=False, packing=False))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stand-in", action="store_true", help="a tiny model on the CPU")
    options = parser.parse_args()
    there = gpus()
    if not there and not options.stand_in:
        print("left out: no CUDA device")
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORKBENCH_HOME"] = str(Path(folder, "home"))
        found = figures(Path(folder), None if options.stand_in else there[0])
    print(json.dumps(found, indent=1) if options.json else as_text(found))


def figures(folder: Path, gpu: Gpu | None, cases: Sequence[Case] = ()) -> Figures:
    """Every case on a GPU, or on the CPU where there is none; and the errors in sum."""
    if gpu:
        turns.show_only((gpu.uuid,))
    found: list[Figures] = []
    simulator = Simulator()
    try:
        with Ledger.open(folder / "ledger.db") as ledger:
            for case in cases or (CASES if gpu else TINY):
                base = _base(folder, case.shape)
                data = ragged.rows(base / "rows.jsonl", ragged.lengths(ROWS, seed=7), seed=7)
                told = _one(ledger, folder, _profile(case, base, data, gpu), simulator)
                found.append({"case": case.name, **asdict(case), **told})
    finally:
        simulator.close()
    return {"machine": _machine(gpu), "rows": found, "errors": summed(found)}


def _base(folder: Path, shape: str) -> Path:
    """Weights of one shape at a time: they take tens of gigabytes."""
    base = folder / shape
    if not base.exists():
        for other in folder.glob("[0-9]*b"):
            shutil.rmtree(other)
        ragged.base(base, shape, half=True)
    return base


def _profile(case: Case, base: Path, data: Path, gpu: Gpu | None) -> Profile:
    training = {"max_steps": STEPS, "effective_batch": BATCH, "micro_batch": BATCH // 2, "packing": case.packing}
    chosen = profile(base, data, PLAIN, case.method, **training)
    asked: dict[str, object] = {
        "model.quantization": case.quantization,
        "training.checkpoint_activations": case.checkpointing,
        "training.evaluate_every": STEPS,
        "split.validation": 0.2,
    }
    if gpu:
        asked |= {"model.dtype": "bfloat16", "hardware.device": "cuda", "hardware.gpus": (gpu.uuid,)}
    return changed(chosen, asked)


def _one(ledger: Ledger, folder: Path, chosen: Profile, simulator: Simulator) -> Figures:
    """A run from its start to its figures, or why there are none."""
    try:
        resolved = launch.resolved(ledger, chosen, simulator)
        if resolved.prediction and not resolved.prediction.fits:
            return {"left_out": "it does not fit"}
        run = launch.start_resolved(ledger, resolved, name="run", runs_folder=folder / "runs")
        while (run := runs.find(ledger, run.uid)).state in LIVE:
            time.sleep(0.5)
        if run.state is not State.FINISHED:
            job = jobs.newest_training(ledger, run.id)
            return {"left_out": job.message.partition("\n")[0] if job else run.state}
        checked = check(ledger, run, simulator)
    except Problem as problem:
        return {"left_out": problem.what}
    finally:
        shutil.rmtree(folder / "runs", ignore_errors=True)  # a result of 8 billion weights is 32 GB
    return {
        "source": checked.source,
        "step": asdict(checked.step),
        **{
            row.figure: {"predicted_mib": row.now, "measured_mib": row.measured, "error_pct": _percent(row.error)}
            for row in checked.rows
        },
        "phases": {phase: {"error_pct": _percent(allocated.error)} for phase, (allocated, _) in checked.phases.items()},
        "notes": list(checked.notes),
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _machine(gpu: Gpu | None) -> Figures:
    from importlib.metadata import version

    return {
        "gpu": gpu.name if gpu else "none: a stand-in on the CPU",
        "driver": gpu.driver if gpu else None,
        "torch": version("torch"),
        "date": time.strftime("%Y-%m-%d"),
    }


def summed(rows: Sequence[Figures]) -> Figures:
    """Mean and worst size of the errors, in percent, figure by figure."""
    found = {}
    for figure in FIGURES:
        errors = [row[figure]["error_pct"] for row in rows if figure in row and row[figure]["error_pct"] is not None]
        if errors:
            sizes = list(map(abs, errors))
            found[figure] = {"runs": len(errors), "mean_pct": statistics.fmean(sizes), "worst_pct": max(sizes)}
    return found


def as_text(found: Figures) -> str:
    """A table: MiB as measured, and how far the prediction is from it."""
    machine = found["machine"]
    lines = [f"{machine['gpu']}, driver {machine['driver']}, torch {machine['torch']}, {machine['date']}", ""]
    lines.append(f"{'':<36}" + "".join(f"{figure + ' MiB':>16}{'off by':>9}" for figure in FIGURES))
    for row in found["rows"]:
        if "left_out" in row:
            lines.append(f"{row['case']:<36}  left out: {row['left_out']}")
            continue
        cells = (_cell(row.get(figure)) for figure in FIGURES)
        lines.append(f"{row['case']:<36}" + "".join(cells))
    lines.append("")
    for figure, errors in found["errors"].items():
        lines.append(
            f"{figure:<10} mean {errors['mean_pct']:.2f} %, worst {errors['worst_pct']:.2f} % of {errors['runs']}"
        )
    return "\n".join(lines)


def _cell(figure: Figures | None) -> str:
    if figure is None or figure["measured_mib"] is None:
        return f"{'–':>16}{'':>9}"
    off = "" if figure["error_pct"] is None else f"{figure['error_pct']:+.2f} %"
    return f"{figure['measured_mib']:>16,.0f}{off:>9}"


if __name__ == "__main__":
    main()
