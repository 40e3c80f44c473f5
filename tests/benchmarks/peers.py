"""The other trainers of the throughput benchmark: transformers' Trainer and TRL's SFTTrainer on the same model and rows.

TRL is installed for the benchmark only, into a cache folder of its own; nothing of the project depends on it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import platformdirs
import torch
from torch.utils.data import SequentialSampler
from transformers import AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

from tests.benchmarks.marks import Marks

TRL: Final = "trl==1.16.0"  # works with transformers 5.23
IGNORED: Final = -100
Row = dict[str, list[int]]  # input_ids and labels


def find_trl() -> str:
    """Make TRL importable, installing it first where it is not; what went wrong, or nothing."""
    if find_spec("trl"):
        return ""
    folder = platformdirs.user_cache_path("workbench-benchmarks") / TRL
    if not (folder / "trl").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), TRL]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"TRL was left out: {TRL} cannot be installed: {done.stderr.strip().splitlines()[-1]}"
    sys.path.append(str(folder))  # behind all that the project has itself
    return ""


def padded(rows: Sequence[Row], length: int, pad_id: int) -> dict[str, torch.Tensor]:
    """A batch as the usual script makes it: every row filled up to `length`."""

    def fill(name: str, value: int) -> torch.Tensor:
        return torch.tensor([row[name] + [value] * (length - len(row[name])) for row in rows])

    ids, labels = fill("input_ids", pad_id), fill("labels", IGNORED)
    sizes = torch.tensor([len(row["input_ids"]) for row in rows])
    return {"input_ids": ids, "labels": labels, "attention_mask": (torch.arange(length) < sizes[:, None]).long()}


class Watching:
    """Mixed into a Trainer: remembers the loss of every step, and what its batches held."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.losses: list[torch.Tensor] = []
        self.supervised: list[int] = []

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset)

    def training_step(self, model: Any, inputs: dict[str, Any], *arguments: Any, **named: Any) -> torch.Tensor:
        """As it is, with a note of it; the first token of a row is predicted from nothing."""
        self.supervised.append(int((inputs["labels"][:, 1:] != IGNORED).sum()))
        loss: torch.Tensor = super().training_step(model, inputs, *arguments, **named)  # type: ignore[misc]
        self.losses.append(loss)
        return loss


class Stepping(TrainerCallback):
    """Notes the time at which each step ended."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """After an optimizer step."""
        self.marks.note()


def settings(folder: str, steps: int, rows_at_once: int, accumulate: int, rate: float, on_gpu: bool) -> dict[str, Any]:
    """What both trainers are told: our run's optimizer, rate and clipping, no saving, no reports."""
    return {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": rows_at_once,
        "gradient_accumulation_steps": accumulate,
        "learning_rate": rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": not on_gpu,
        "bf16": on_gpu,
        "gradient_checkpointing": False,
        "seed": 7,
    }


def train_padded(
    model: Any,
    rows: Sequence[Row],
    *,
    steps: int,
    rows_at_once: int,
    accumulate: int,
    length: int | None,
    pad_id: int,
    rate: float,
    on_gpu: bool = False,
) -> Marks:
    """transformers' Trainer as in the usual script; `length` None pads a batch to its own longest row."""

    def collate(batch: list[Row]) -> dict[str, torch.Tensor]:
        return padded(batch, length or max(len(row["input_ids"]) for row in batch), pad_id)

    watched = type("WatchedTrainer", (Watching, Trainer), {})
    marks = Marks()
    with tempfile.TemporaryDirectory() as folder:
        trainer = watched(
            model=model,
            args=TrainingArguments(**settings(folder, steps, rows_at_once, accumulate, rate, on_gpu)),
            train_dataset=list(rows),
            data_collator=collate,
            callbacks=[Stepping(marks)],
        )
        return _trained(trainer, marks, accumulate)


def train_trl(
    model: Any,
    tokenizer: Path,
    rows: Sequence[Row],
    *,
    steps: int,
    rows_at_once: int,
    accumulate: int,
    packing: bool,
    length: int,
    rate: float,
    on_gpu: bool = False,
) -> Marks:
    """TRL's SFTTrainer, packing rows of `length` tokens with its best strategy, or with rows as they are."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    watched = type("WatchedSFTTrainer", (Watching, SFTTrainer), {})
    marks = Marks()
    with tempfile.TemporaryDirectory() as folder:
        trainer = watched(
            model=model,
            args=SFTConfig(
                **settings(folder, steps, rows_at_once, accumulate, rate, on_gpu), packing=packing, max_length=length
            ),
            train_dataset=Dataset.from_list(list(rows)),
            processing_class=AutoTokenizer.from_pretrained(tokenizer),
            callbacks=[Stepping(marks)],
        )
        return _trained(trainer, marks, accumulate)


def _trained(trainer: Any, marks: Marks, accumulate: int) -> Marks:
    trainer.train()
    starts = range(0, len(trainer.losses), accumulate)
    marks.supervised = [sum(trainer.supervised[start : start + accumulate]) for start in starts]
    marks.losses = [float(sum(trainer.losses[start : start + accumulate])) for start in starts]
    return marks
