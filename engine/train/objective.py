"""What is minimised: from the cross-entropy of each supervised token to the loss of a micro-batch.

An objective is a sum over what its effective batch counts - supervised tokens, or pairs - and the step divides by the count of the whole
effective batch. Accumulating N micro-batches then equals one batch N times as large, whatever the rows' lengths
(https://huggingface.co/blog/gradient_accumulation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.data.prepare import Tokens
from engine.profile import Training
from engine.train import preference
from engine.train.batches import MicroBatch, rows_of, supervised_tokens


@dataclass(frozen=True)
class Loss:
    """A micro-batch's part: `total` is what is minimised, a scalar float32; `told` are detached sums of what else is told about it."""

    total: Tensor
    told: Mapping[str, Tensor]


class Objective(Protocol):
    """How a loss is made, and what it is a mean over."""

    def count(self, tokens: Tokens, examples: Sequence[int] | NDArray[np.int64]) -> int:
        """What the loss of these examples is divided by."""
        ...

    def loss(self, scorer: nn.Module, batch: MicroBatch) -> Loss:
        """The summed loss of a micro-batch."""
        ...


class Likelihood:
    """Supervised fine-tuning and pretraining: the mean cross-entropy of supervised tokens, in nats."""

    def count(self, tokens: Tokens, examples: Sequence[int] | NDArray[np.int64]) -> int:
        """Supervised tokens."""
        return supervised_tokens(tokens, rows_of(tokens, examples))

    def loss(self, scorer: nn.Module, batch: MicroBatch) -> Loss:
        """Summed cross-entropy."""
        return Loss(scorer(batch).sum(), {})


class _OverPairs:
    """What objectives over pairs share: their loss is a mean over pairs, however long the responses are."""

    def count(self, tokens: Tokens, examples: Sequence[int] | NDArray[np.int64]) -> int:
        """Pairs."""
        return len(examples)


@dataclass(frozen=True)
class Dpo(_OverPairs):
    """Direct preference optimisation: the chosen response is to gain on the rejected one, against the model as the run began with it.

    `length_normalised` compares log-probabilities a token.
    """

    beta: float
    length_normalised: bool
    reference: NDArray[np.float32] | None = (
        None  # [rows]: summed log-probability of each of the data's rows; see `reference`
    )

    def loss(self, scorer: nn.Module, batch: MicroBatch) -> Loss:
        """Summed over the pairs of a micro-batch."""
        assert self.reference is not None, "the reference is computed before the first step"
        logps, lengths = preference.log_probabilities(scorer(batch), batch)
        gains = logps - torch.from_numpy(self.reference[list(batch.rows)]).to(logps.device, non_blocking=True)
        if self.length_normalised:
            gains, logps = gains / lengths, logps / lengths
        rewards = self.beta * gains
        return Loss(preference.dpo(rewards).sum(), preference.told(rewards, logps))


@dataclass(frozen=True)
class Orpo(_OverPairs):
    """Odds-ratio preference optimisation: learns the chosen response and at once to prefer it; there is no reference."""

    beta: float

    def loss(self, scorer: nn.Module, batch: MicroBatch) -> Loss:
        """Summed over the pairs of a micro-batch; `chosen_loss` is its first term, the cross-entropy a token of chosen responses."""
        logps, lengths = preference.log_probabilities(scorer(batch), batch)
        means = logps / lengths
        chosen_loss = -preference.pairs(means)[0].detach().sum()
        told = {**preference.told(self.beta * means, means), "chosen_loss": chosen_loss}
        return Loss(preference.orpo(means, self.beta).sum(), told)


def make(training: Training) -> Objective:
    """The objective that a profile asks for; that of dpo still lacks its reference, which `engine.train.reference` gives it."""
    match training.objective:
        case "dpo":
            return Dpo(training.beta, training.length_normalised)
        case "orpo":
            return Orpo(training.beta)
        case _:
            return Likelihood()
