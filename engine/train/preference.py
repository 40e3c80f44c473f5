"""Learning to prefer: losses over pairs of responses, from what the model says of their tokens.

Rows come in pairs, the chosen response's first: values of shape [rows] are those of chosen, rejected, chosen, rejected ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from engine.train.batches import MicroBatch

MOST_LIKELY: Final = -torch.finfo(torch.float32).eps  # the highest log-probability whose odds are finite in float32


def log_probabilities(nll: Tensor, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """Of each row the summed log-probability of its supervised tokens in nats, and their number; both [rows] float32.

    `nll` [targets] is the scorer's. A row without a supervised token has sum 0 and, to be divided by, the number 1.
    """
    nothing = nll.new_zeros(len(batch.rows))
    numbers = nothing.index_add(0, batch.owners, torch.ones_like(nll))
    return nothing.index_add(0, batch.owners, -nll), numbers.clamp(min=1)


def dpo(rewards: Tensor) -> Tensor:
    """Direct preference optimisation with the sigmoid loss (arXiv:2305.18290, equation 7); [pairs].

    `rewards` [rows]: beta times how much more likely each response has become than it is to the reference. Where both are taken a token it is
    the length-normalised variant (arXiv:2411.15124).
    """
    chosen, rejected = pairs(rewards)
    return -functional.logsigmoid(chosen - rejected)


def orpo(means: Tensor, beta: float) -> Tensor:
    """Odds-ratio preference optimisation (arXiv:2403.07691, equation 6); [pairs].

    `means` [rows] are log-probabilities a token: a response's probability is the geometric mean of its tokens' (equation 1). The first
    term learns the chosen response, the second, weighed by `beta`, the preference.
    """
    bounded = means.clamp(max=MOST_LIKELY)
    # log(1 - p) as log(-expm1(log p)): 1 - exp(log p) is 0 in float32 for a response known by heart, and the loss not a number.
    chosen, rejected = pairs(bounded - torch.log(-torch.expm1(bounded)))
    return -pairs(means)[0] - beta * functional.logsigmoid(chosen - rejected)


def told(rewards: Tensor, logps: Tensor) -> Mapping[str, Tensor]:
    """Sums over pairs, detached, whose means are told; accuracy is the share of pairs whose chosen response has the higher reward."""
    chosen, rejected = pairs(rewards.detach())
    chosen_logp, rejected_logp = pairs(logps.detach())
    return {
        "accuracy": (chosen > rejected).float().sum(),
        "reward_margin": (chosen - rejected).sum(),
        "chosen_reward": chosen.sum(),
        "rejected_reward": rejected.sum(),
        "chosen_logp": chosen_logp.sum(),
        "rejected_logp": rejected_logp.sum(),
    }


def pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    """[rows] as those of chosen and those of rejected responses, both [pairs]."""
    chosen, rejected = values.view(-1, 2).unbind(1)
    return chosen, rejected
