"""How much a step computes: the model's own arithmetic, whatever is padded, recomputed or done to load weights.

A matrix product of N weights takes 2 N a token going forward and 2 N for what it passes back; 2 N more for its own gradient where it is
trained: 6 N a token for a trained weight (Kaplan et al. 2020, arXiv:2001.08361, section 2.1), 4 N for a frozen one below an adapter
(Schulman et al. 2025, "LoRA Without Regret", on the compute of LoRA). Attention adds, forward, 2 products of a query with
every key before it, and twice that going back (Chowdhery et al. 2022, arXiv:2204.02311, appendix B, halved for what a causal
mask leaves out). The head is counted where a token is supervised: only there is it applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from engine import compatible
from engine.fit import cards
from engine.train import anatomy
from engine.train.model import Loaded

BACK: Final = 2  # going back costs twice what going forward does, in attention


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of training: `token` of each token, `pair` of each pair of a token and one before it, `head` of each
    supervised token.
    """

    token: float
    pair: float
    head: float

    def of(self, lengths: NDArray[np.int64], supervised: int) -> float:
        """Of rows of these lengths with so many supervised tokens."""
        pairs = float((lengths.astype(np.float64) ** 2).sum()) / 2
        return self.token * float(lengths.sum()) + self.pair * pairs + self.head * supervised


def cost(loaded: Loaded) -> Cost:
    """What a model takes, by its weights. Of experts those that a token is sent to count; windows of attention are not told apart from all."""
    config = loaded.model.config.get_text_config()
    share = (getattr(config, "num_experts_per_tok", None) or 1) / max(1, compatible.experts(config.to_dict()))
    token = head = 0.0
    for name, parameter in loaded.model.named_parameters():
        kind = anatomy.kind_of(name)
        if kind in ("norms", "biases", "embeddings", "virtual tokens") or (parameter.ndim < 2 and kind != "head"):
            continue
        operations = (6 if parameter.requires_grad else 4) * anatomy.size_of(parameter)
        if kind == "head":
            head += operations
        else:
            token += operations * (share if kind == "experts" else 1)
    if not head:  # the head is the embedding
        head = float(_embedding(loaded.model))
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    pair = (1 + BACK) * 2 * 2 * config.num_hidden_layers * config.num_attention_heads * size
    return Cost(token, float(pair), head)


def _embedding(model: nn.Module) -> int:
    """Operations a token of a head that is the embedding."""
    tables = [weight for name, weight in model.named_parameters() if anatomy.kind_of(name) == "embeddings"]
    return max(((6 if table.requires_grad else 4) * anatomy.size_of(table) for table in tables), default=0)


def peak(device_name: str, dtype: str) -> float | None:
    """The matrix rate that the card of this name is published with, in FLOP/s; None for a card that does not ship."""
    spec = cards.spec_of(device_name)
    return spec.tflops(dtype) * 1e12 if spec else None
