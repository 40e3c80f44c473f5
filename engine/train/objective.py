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
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.data.prepare import Tokens
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
