"""Somebody's own training, as a program of its own: `python trainee.py BASE OUT STEPS [pause=N] [resume] [own] [fail=N] [print]`.

It knows nothing of Workbench but, with `own`, its callback. With `pause` it waits at a step until the file OUT/go is there.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

BASE, OUT, STEPS = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
OPTIONS = dict(word.partition("=")[::2] for word in sys.argv[4:])


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        ids = torch.arange(8) + place
        return {"input_ids": ids, "labels": ids}


class Gate(TrainerCallback):
    """Opened before the next step, when all of the last one has been logged."""

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        while state.global_step == int(OPTIONS.get("pause", -1)) and not (OUT / "go").exists():
            time.sleep(0.05)
        if state.global_step == int(OPTIONS.get("fail", -1)):
            raise RuntimeError("the trainee was told to fail")


callbacks: list[TrainerCallback] = [Gate()]
if "own" in OPTIONS:
    from engine.callback import WorkbenchCallback

    callbacks.append(WorkbenchCallback())
arguments = TrainingArguments(
    output_dir=str(OUT),
    max_steps=STEPS,
    logging_steps=2,
    save_steps=10,
    eval_strategy="steps",
    eval_steps=10,
    per_device_train_batch_size=2,
    learning_rate=1e-3,
    report_to=[] if "own" in OPTIONS or "print" in OPTIONS else ["tensorboard"],
    use_cpu=True,
)
trainer = Trainer(
    model=AutoModelForCausalLM.from_pretrained(BASE),
    args=arguments,
    train_dataset=Rows(),
    eval_dataset=Rows(),
    callbacks=callbacks,
)
trainer.train(resume_from_checkpoint="resume" in OPTIONS)
