"""The GPU part of the throughput benchmark: a Llama of 1.5 billion random weights computed in bfloat16, on one GPU and on all that there are.

    lora, full          on the first GPU: the engine with documents packed flat, Trainer on padded rows, TRL packed
    replicate, shard    all weights trained on all GPUs, where there are several, started as the engine starts a run: DDP and FSDP2

Tokens are those of the data, without padding. Memory is the most that torch held, in MiB; of several GPUs it is the first's. MFU of the
others is the engine's own by their speed: they do the same arithmetic.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from engine import profile_file, turns
from engine.data.tokenizer import load_tokenizer
from engine.ending import ran_out
from engine.errors import Problem
from engine.gpu import Gpu, gpus
from engine.jobs import spawn
from engine.ledger import Ledger, jobs, metrics, runs
from engine.ledger.states import LIVE
from engine.profile import Profile, changed, flat
from tests.benchmarks import ours, peers, ragged
from tests.benchmarks.compared import PLAIN, RATE, profile
from tests.benchmarks.marks import Marks
from tests.benchmarks.ours import Ours

MIB: Final = 1 << 20
BATCH: Final = 64  # examples of a step
LARGE: Final = 60_000.0  # MiB from which a GPU takes rows as below
AT_ONCE: Final = {True: 16, False: 4}  # rows of a forward pass, of a large GPU and of a small one
NONE: Final = "left out: no CUDA device"
Figures = dict[str, Any]


@dataclass(frozen=True)
class Machine:
    """What is measured on; `stand_in` is a CPU that runs a tiny model through all of it, to see that it works."""

    there: tuple[Gpu, ...]
    stand_in: bool = False

    @property
    def on_gpu(self) -> bool:
        """Whether it is real."""
        return not self.stand_in


def find() -> Machine:
    """The GPUs; this process is left with the first, so that trainers that would take all take one. Before CUDA starts."""
    there = gpus()
    if there:
        turns.show_only((there[0].uuid,))
    return Machine(there)


def figures(options: argparse.Namespace, folder: Path, with_trl: bool, machine: Machine) -> Figures:
    """All of it, or why it was left out."""
    if machine.on_gpu and not (machine.there and torch.cuda.is_available()):
        return {"gpu": NONE}
    steps = options.warm_up + options.steps
    base = ragged.base(folder / "base", "1b" if machine.on_gpu else "tiny")
    data = ragged.rows(folder / "rows.jsonl", ragged.lengths(BATCH * steps, seed=7), seed=7)
    large = machine.on_gpu and (machine.there[0].total_mib or 0) > LARGE
    asked = {
        "model.dtype": "bfloat16",
        "training.effective_batch": BATCH,
        "training.micro_batch": AT_ONCE[large],
        "hardware.device": "cuda" if machine.on_gpu else "cpu",
    }
    found: Figures = {"device": torch.cuda.get_device_name() if machine.on_gpu else "a stand-in on the CPU"}
    for method in ("lora", "full"):
        one = changed(profile(base, data, PLAIN, method, max_steps=steps, packing=True), asked)
        found[method] = side_by_side(folder / method, one, options.warm_up, with_trl, machine)
    for sharding in ("replicate", "shard"):
        found[sharding] = NONE if machine.on_gpu else "left out: one process"
        if (count := len(machine.there)) > 1:
            ranks = {
                "hardware.ranks": count,
                "hardware.sharding": sharding,
                "hardware.gpus": tuple(gpu.uuid for gpu in machine.there),
            }
            found[sharding] = launched(folder / sharding, changed(one, ranks), options.warm_up, machine)
    return {"gpu": found}


def side_by_side(folder: Path, chosen: Profile, warm_up: int, with_trl: bool, machine: Machine) -> Figures:
    """The three on one device, each with the memory to itself."""
    kept: list[Ours] = []

    def own() -> Marks:
        kept.append(ours.train(folder, chosen))
        return kept[0].marks

    found: Figures = {"ours": measured(own, machine)}
    if not kept:
        return found
    rows, training = kept[0].rows, chosen.training
    tokens = sum(len(row["input_ids"]) for row in rows) / sum(kept[0].marks.supervised)
    with Ledger.open(folder / "ledger.db") as ledger:
        told = recorded(ledger, 1, warm_up)
    at_once, length = int(training.micro_batch), training.row_tokens
    how: dict[str, Any] = {"steps": training.max_steps, "rate": RATE, "length": length, "on_gpu": machine.on_gpu}
    padded: dict[str, Any] = {
        "rows_at_once": at_once,
        "accumulate": BATCH // at_once,
        "pad_id": load_tokenizer(chosen.model.base).pad_id,
    }
    found["padded"] = measured(lambda: peers.train_padded(kept[0].model(), rows, **how, **padded), machine)
    if with_trl:  # about as many tokens a step as the others
        packed: dict[str, Any] = {"rows_at_once": at_once, "accumulate": max(1, BATCH // at_once // 3), "packing": True}
        base = Path(chosen.model.base)
        found["trl"] = measured(lambda: peers.train_trl(kept[0].model(), base, rows, **how, **packed), machine)
    speed = kept[0].marks.tokens_per_second(warm_up)
    for one in found.values():
        if "marks" in one:
            supervised = one.pop("marks").tokens_per_second(warm_up)
            mfu = told["mfu"]
            one |= {"supervised_per_second": supervised, "tokens_per_second": supervised * tokens}
            one["mfu"] = mfu * supervised / speed if mfu else None
    found["ours"] |= {
        name: told[name] for name in ("allocated_mib", "reserved_mib")
    }  # the engine resets torch's own peaks
    return found


def measured(train: Callable[[], Marks], machine: Machine) -> Figures:
    """The marks of a training and torch's peaks; why it was left out where memory does not allow it."""
    free(machine)
    try:
        marks = train()
    except (RuntimeError, Problem) as error:
        if isinstance(error, Problem) or ran_out(error):
            return {"left_out": str(error).partition("\n")[0]}
        raise
    found: Figures = {"marks": marks}
    if machine.on_gpu:
        found["allocated_mib"] = torch.cuda.max_memory_allocated() / MIB
        found["reserved_mib"] = torch.cuda.max_memory_reserved() / MIB
    return found


def free(machine: Machine) -> None:
    """Leave as little as possible on the GPU of what was before."""
    gc.collect()
    if machine.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def launched(folder: Path, chosen: Profile, warm_up: int, machine: Machine) -> Figures:
    """A run in processes of its own, as `workbench run` starts them; its figures are those that it records."""
    free(machine)
    stood = os.environ.get("CUDA_VISIBLE_DEVICES")
    if machine.on_gpu:
        turns.show_only(tuple(gpu.uuid for gpu in machine.there))
    try:
        with Ledger.open(folder / "ledger.db") as ledger:
            text = profile_file.dump(chosen)
            run = runs.create(ledger, name="run", runs_folder=folder / "runs", profile=text, settings=flat(chosen))
            made = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
            spawn(ledger, made)
            while (job := jobs.get(ledger, made.uid)).state in LIVE and jobs.seen_state(job) in LIVE:
                time.sleep(0.5)
            if job.state != "finished":
                return {"left_out": job.message.partition("\n")[0]}
            return recorded(ledger, run.id, warm_up)
    finally:
        if stood is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = stood


def recorded(ledger: Ledger, run: int, warm_up: int) -> Figures:
    """What the engine itself says of a run: medians of its steps, and its highest peaks."""

    def of(name: str, over: Callable[[Sequence[float]], float]) -> float | None:
        values = metrics.curve(ledger, run, name).values[warm_up:]
        return float(over(values.tolist())) if len(values) else None

    return {
        "tokens_per_second": of("train/tokens_per_second", np.median),
        "mfu": of("train/mfu", np.median),
        "allocated_mib": of("memory/allocated_mib", max),
        "reserved_mib": of("memory/reserved_mib", max),
    }


def main() -> None:
    """This part alone, on a tiny model on the CPU with two ranks: whether it works, not how fast."""
    import tempfile

    options = argparse.Namespace(warm_up=1, steps=2)
    twice = tuple(Gpu(uuid=str(index), index=index, name="none") for index in range(2))
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(figures(options, Path(folder), not peers.find_trl(), Machine(twice, stand_in=True)), indent=1))


if __name__ == "__main__":
    main()
