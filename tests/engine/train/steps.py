"""A few optimizer steps of a tiny model in this process, as the loop takes them: on ragged rows, with dropout, micro-batch by micro-batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.profile import Profile
from engine.train import checkpoint, model, optimizer, step
from engine.train.batches import Layout, micro_batches
from engine.train.checkpoint import Progress, trained
from engine.train.model import Loaded
from engine.train.objective import Likelihood
from engine.train.scorer import Scorer
from tests.engine.train.test_batches import ragged

CPU = torch.device("cpu")
ROWS = ragged([24, 40, 9, 31])


@dataclass(frozen=True)
class Tuning:
    """A model with its optimizer, somewhere in its training."""

    profile: Profile
    loaded: Loaded
    optimizer: torch.optim.Optimizer

    def take(self, steps: int) -> list[float]:
        """Optimizer steps over the same four rows; the loss of each, before its update."""
        objective, scorer = Likelihood(), Scorer(self.loaded.model, self.loaded.autocast)
        examples = range(ROWS.examples)
        count = objective.count(ROWS, examples)
        losses = []
        for _ in range(steps):
            shares = [
                step.forward_backward(objective, scorer, batch, count).total
                for batch in micro_batches(ROWS, examples, Layout(2, pad_id=0))
            ]
            step.clip(trained(self.loaded.model).values(), 1.0)
            step.update(self.optimizer)
            losses.append(float(torch.stack(shares).sum()))
        return losses

    def weights(self) -> dict[str, Tensor]:
        """Copies of what is trained."""
        return {name: weight.detach().clone() for name, weight in trained(self.loaded.model).items()}

    def save(self, folder: Path) -> Path:
        """A checkpoint of this moment."""
        return checkpoint.save(folder, self.loaded.model, self.optimizer, Progress(step=3), before_rename=lambda: None)[
            0
        ]

    def logits(self, ids: Tensor) -> Tensor:
        """What the trained model says, without dropout; [rows, length, vocabulary] float32, without virtual tokens' places."""
        return logits(self.loaded.model, ids, self.loaded.autocast)


def begin(profile: Profile, seed: int = 1) -> Tuning:
    """A fresh model and optimizer; adapters are drawn from the seed."""
    torch.manual_seed(seed)
    loaded = model.load(profile, CPU, vocabulary=400)
    return Tuning(profile, loaded, optimizer.make(loaded.model, profile.training, CPU))


def resume(profile: Profile, folder: Path) -> Tuning:
    """Another model, put where a checkpoint was."""
    tuning = begin(profile, seed=99)
    checkpoint.restore(folder, tuning.loaded.model, tuning.optimizer)
    return tuning


def logits(found: torch.nn.Module, ids: Tensor, autocast: torch.dtype | None = None) -> Tensor:
    """What a model says, without dropout; [rows, length, vocabulary] float32, without virtual tokens' places."""
    found.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        said: Tensor = found(input_ids=ids, use_cache=False).logits
    found.train()
    return said[:, -ids.shape[1] :].float()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether all weights are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
