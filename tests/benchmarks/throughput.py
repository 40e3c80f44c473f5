"""How fast the engine trains beside its peers: `python -m tests.benchmarks.throughput [--json]`.

In one run, on one model, one data set and one seed: the engine's own job (ledger, orders, packing), transformers' Trainer as the usual
script has it (rows padded to 512), and TRL's SFTTrainer with packing. They take turns; warm-up steps are left out; medians are
told. The engine computes deterministically, as it always does on a CPU; the peers as they come. Prints figures and asserts nothing.

    ratio_padded         supervised tokens a second, ours / Trainer's on padded rows
    ratio_trl            the same, ours / TRL's
    cpu_ratio_trainer    CPU seconds a step, ours / Trainer's, on identical batches of four unpadded rows and a tiny model: each as it comes,
                         the engine packing them into one, Trainer taking them one after the other
    cpu_ratio_one_row    the same with one row a step, where there is nothing to pack: what the loops alone take (`identical` holds
                         these and the other sizes)
    max_loss_difference  of the loss of any step between any two of the three, on all identical unpadded batches
    gpu                  see `on_gpu`; all else is computed on the CPU
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from engine import process
from engine.data.tokenizer import load_tokenizer
from engine.profile import Profile
from tests.benchmarks import on_gpu, ours, peers, ragged
from tests.benchmarks.compared import AT_ONCE, BATCH, PLAIN, RATE, profile
from tests.benchmarks.marks import Marks

PUBMEDQA: Final = Path(__file__).parents[3] / "shared" / "data" / "pubmedqa" / "ori_pqal.json"
QUESTION: Final = {"instruction": "QUESTION", "input": "CONTEXTS", "response": "{final_decision}. {LONG_ANSWER}"}
Figures = dict[str, Any]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="counted steps of a repeat")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--threads", type=int, default=process.threads())
    parser.add_argument("--method", choices=["lora", "full"], default="lora")
    parser.add_argument("--only", choices=["ragged", "pubmedqa", "identical", "gpu"], help="one part")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    gpus = on_gpu.find()
    missing = peers.find_trl()
    if missing:
        print(missing, file=sys.stderr)
    figures: Figures = {"machine": machine(options)}
    parts: dict[str, Callable[[argparse.Namespace, Path, bool], Figures]] = {
        "ragged": ragged_rows,
        "pubmedqa": pubmedqa_rows,
        "identical": identical_batches,
        "gpu": partial(on_gpu.figures, machine=gpus),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            # Trainers print what they log: stdout is kept for the figures.
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
                figures |= part(options, Path(folder), not missing)
    print(json.dumps(figures, indent=1) if options.json else as_text(figures))


def machine(options: argparse.Namespace) -> Figures:
    """What the figures depend on."""
    cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu.partition(": ")[2],
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "threads": options.threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": peers.TRL,
        "method": options.method,
        "dtype": "float32",
    }


def as_text(figures: Figures) -> str:
    """A line a figure."""
    shown = {name: f"{value:,.5g}" if isinstance(value, float) else str(value) for name, value in figures.items()}
    return "\n".join(f"{name.replace('_', ' '):34} {value}" for name, value in shown.items())


def side_by_side(folder: Path, chosen: Profile, options: argparse.Namespace, with_trl: bool) -> Figures:
    """Supervised tokens a second of the three, taking turns."""
    base, steps = Path(chosen.model.base), chosen.training.max_steps or 0
    pad_id = load_tokenizer(str(base)).pad_id
    speeds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}

    def booked(name: str, marks: Marks) -> None:
        speeds.setdefault(name, []).append(marks.tokens_per_second(options.warm_up))
        cpu.setdefault(name, []).append(marks.tokens_per_cpu_second(options.warm_up))

    for repeat in range(options.repeats):
        found = ours.train(folder / str(repeat), chosen)
        booked("ours", found.marks)
        whole: dict[str, Any] = {
            "rows_at_once": AT_ONCE,
            "accumulate": BATCH // AT_ONCE,
            "length": ragged.WINDOW,
            "pad_id": pad_id,
        }
        booked("padded", peers.train_padded(found.model(), found.rows, steps=steps, rate=RATE, **whole))
        if with_trl:  # as many tokens a step as the others
            packed: dict[str, Any] = {"rows_at_once": 1, "accumulate": 4, "packing": True, "length": ragged.WINDOW}
            booked("trl", peers.train_trl(found.model(), base, found.rows, steps=steps, rate=RATE, **packed))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    tokens = sum(len(row["input_ids"]) for row in found.rows)
    return {
        "ratio_padded": medians["ours"] / medians["padded"],
        "ratio_trl": medians["ours"] / medians["trl"] if with_trl else None,
        "tokens_per_second": medians,
        "tokens_per_cpu_second": {name: statistics.median(values) for name, values in cpu.items()},
        "repeats": speeds,
        "mean_length": tokens / len(found.rows),
        "supervised_share": sum(found.marks.supervised) / tokens,
    }


def ragged_rows(options: argparse.Namespace, folder: Path, with_trl: bool) -> Figures:
    """Rows of lognormal lengths."""
    steps = options.warm_up + options.steps
    base = ragged.base(folder / "base", "million")
    data = ragged.rows(folder / "rows.jsonl", ragged.lengths(BATCH * steps, seed=7), seed=7)
    chosen = profile(base, data, PLAIN, options.method, max_steps=steps, packing=True)
    return side_by_side(folder, chosen, options, with_trl)


def pubmedqa_rows(options: argparse.Namespace, folder: Path, with_trl: bool) -> Figures:
    """PubMedQA, where it is at hand; whatever it gives."""
    if not PUBMEDQA.is_file():
        return {"pubmedqa": f"left out: there is no {PUBMEDQA}"}
    base = ragged.base(folder / "base", "million", ragged.pubmedqa(PUBMEDQA))
    steps = options.warm_up + options.steps
    chosen = profile(base, PUBMEDQA, QUESTION, options.method, max_steps=steps, packing=True)
    return {f"pubmedqa_{name}": value for name, value in side_by_side(folder, chosen, options, with_trl).items()}


def identical_batches(options: argparse.Namespace, folder: Path, with_trl: bool) -> Figures:
    """Rows that nobody pads, and steps of one or of four of them: CPU time of a step, and the losses of all three."""
    found = {}
    for shape, count in (("tiny", 100), ("million", 20)):
        for batch, packed in ((1, False), (4, False), (4, True)):
            name = f"{shape}, {batch} a step" + (", packed" if packed else "")
            steps = options.warm_up + count
            base = ragged.base(folder / name, shape)
            data = ragged.rows(base / "rows.jsonl", ragged.lengths(batch * steps, seed=8), seed=8)
            at_once = batch if packed else 1
            shared = {"max_steps": steps, "effective_batch": batch, "micro_batch": at_once, "packing": packed}
            chosen = profile(base, data, PLAIN, options.method, **shared)
            found[name] = _identical(chosen, options, with_trl)
    return {
        "cpu_ratio_trainer": found["tiny, 4 a step, packed"]["cpu_ratio"],
        "cpu_ratio_one_row": found["tiny, 1 a step"]["cpu_ratio"],
        "max_loss_difference": max(one["max_loss_difference"] for one in found.values()),
        "identical": found,
    }


def _identical(chosen: Profile, options: argparse.Namespace, with_trl: bool) -> Figures:
    base = Path(chosen.model.base)
    pad_id = load_tokenizer(str(base)).pad_id
    how: dict[str, Any] = {"rows_at_once": 1, "accumulate": chosen.training.effective_batch, "rate": RATE}
    how["steps"] = chosen.training.max_steps
    cpu: dict[str, list[float]] = {}
    losses: dict[str, list[float]] = {}
    for repeat in range(options.repeats):
        found = ours.train(base / str(repeat), chosen)
        tried = {"ours": found.marks}
        tried["trainer"] = peers.train_padded(found.model(), found.rows, length=None, pad_id=pad_id, **how)
        if with_trl:
            tried["trl"] = peers.train_trl(found.model(), base, found.rows, packing=False, length=ragged.WINDOW, **how)
        for name, marks in tried.items():
            cpu.setdefault(name, []).append(marks.cpu_per_step(options.warm_up))
            losses[name] = marks.losses
    medians = {name: statistics.median(values) for name, values in cpu.items()}
    return {
        "cpu_ratio": medians["ours"] / medians["trainer"],
        "max_loss_difference": max(max(values) - min(values) for values in zip(*losses.values(), strict=True)),
        "cpu_seconds_per_step": medians,
        "steps": chosen.training.max_steps,
    }


if __name__ == "__main__":
    main()
