"""The second promise: the figures of a run are those of a plain loop over the same rows, written anew here without the engine's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import PeftModel
from safetensors.numpy import load_file
from torch.nn import functional
from transformers import AutoModelForCausalLM

from engine.ledger import metrics
from engine.ledger.runs import Run
from tests.engine.train.conftest import Bench

STEPS, BATCH, SEED, RATE = 4, 8, 7, 3e-3
SETTINGS = {
    "method.name": "full",
    "training.max_steps": STEPS,
    "training.effective_batch": BATCH,
    "training.micro_batch": 2,
    "training.seed": SEED,
    "training.learning_rate": RATE,
    "training.schedule": "linear",
    "training.warmup_ratio": 0.5,
    "training.weight_decay": 0.5,
    "training.max_grad_norm": 0.5,  # below the gradients' norm: clipping is seen
    "training.evaluate_every": STEPS,
    "training.save_every": STEPS,
}


@dataclass(frozen=True)
class Row:
    """One example as it was prepared."""

    ids: NDArray[np.int32]
    supervised: NDArray[np.bool_]


def rows_of(path: Path) -> list[Row]:
    found = load_file(path)
    ends = found["starts"]
    return [Row(found["ids"][a:b], found["supervised"][a:b]) for a, b in pairwise(ends)]


def surprise(model: Any, rows: list[Row]) -> torch.Tensor:
    """Mean cross-entropy over the supervised tokens of all rows, a row at a time without padding."""
    total, count = torch.zeros(()), 0
    for row in rows:
        logits = model(torch.tensor([row.ids.tolist()])).logits[0]
        places = torch.tensor(np.flatnonzero(row.supervised))
        wanted = torch.tensor(row.ids.astype(np.int64))[places]
        total = total + functional.cross_entropy(logits[places - 1], wanted, reduction="sum")
        count += len(places)
    return total / count


def curve(bench: Bench, run: Run, name: str) -> list[float]:
    return [float(value) for value in metrics.curve(bench.ledger, run.id, name).values]


# transformers#34191, #35203, #37766, #37474: micro-batches of 2 here, all 8 rows at once there.
def test_a_run_says_what_a_plain_loop_says(bench: Bench) -> None:
    run = bench.trained("plain", **SETTINGS)
    train = rows_of(run.folder / "prepared" / "train.safetensors")
    model: Any = AutoModelForCausalLM.from_pretrained(bench.base, dtype=torch.float32)
    # The model's two-dimensional weights are its matrices and the embedding; norms and the embedding are not pulled towards zero.
    left = [weight for name, weight in model.named_parameters() if weight.ndim == 1 or "embed_tokens" in name]
    pulled = [weight for name, weight in model.named_parameters() if weight.ndim > 1 and "embed_tokens" not in name]
    optimizer = torch.optim.AdamW(
        [{"params": pulled, "weight_decay": 0.5}, {"params": left, "weight_decay": 0.0}], lr=RATE
    )
    epochs = [np.random.default_rng([SEED, epoch]).permutation(len(train)) for epoch in range(2)]
    losses, norms, tokens, read = [], [], [], []
    rates = [RATE / 2, RATE, RATE, RATE / 2]  # two steps up, then down a line that reaches 0 a step behind the last
    for step, rate in enumerate(rates):
        epoch, place = divmod(step, 3)  # 24 rows are three steps
        batch = [train[row] for row in epochs[epoch][place * BATCH :][:BATCH]]
        loss = surprise(model, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = math.sqrt(sum(float((weight.grad**2).sum()) for weight in model.parameters()))
        for weight in model.parameters():
            weight.grad *= min(1.0, 0.5 / norm)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        losses.append(loss.item())
        norms.append(norm)
        tokens.append(sum(int(row.supervised.sum()) for row in batch))
        read.append(sum(len(row.ids) for row in batch))
    with torch.no_grad():
        validation = float(surprise(model, rows_of(run.folder / "prepared" / "validation.safetensors")))
    assert min(norms) > 0.5
    assert curve(bench, run, "train/loss") == pytest.approx(losses, rel=1e-4)
    assert curve(bench, run, "train/grad_norm") == pytest.approx(norms, rel=1e-3)
    assert curve(bench, run, "train/rate") == pytest.approx(rates)
    assert curve(bench, run, "train/tokens") == np.cumsum(tokens).tolist()
    assert curve(bench, run, "train/epoch") == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3])
    assert curve(bench, run, "validation/loss") == pytest.approx([validation], rel=1e-4)
    seconds = np.sum([curve(bench, run, f"time/{part}") for part in ("data", "forward", "backward", "update")], axis=0)
    # All tokens that a step read, by all of its seconds: the times are of the same clock, so no machine is too slow for this.
    assert curve(bench, run, "train/tokens_per_second") == pytest.approx((read / seconds).tolist(), rel=0.2)
    assert min(read) > 2 * max(tokens)


def test_validation_is_of_the_adapter_as_it_is_used_without_dropout(bench: Bench) -> None:
    run = bench.trained("lora", **{**SETTINGS, "method.name": "lora", "method.dropout": 0.5})
    base: Any = AutoModelForCausalLM.from_pretrained(bench.base, dtype=torch.float32)
    tuned: Any = PeftModel.from_pretrained(base, str(run.folder / "adapter" / "best"))
    tuned.train(False)
    with torch.no_grad():
        validation = float(surprise(tuned, rows_of(run.folder / "prepared" / "validation.safetensors")))
    assert curve(bench, run, "validation/loss") == pytest.approx([validation], rel=1e-5)
