"""How many layers of what width a decoder-only transformer has: what formulas of memory and time are over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Linear:
    """One linear layer of a block: its name and widths in features. Those of a `group` read the same tensor."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False
    group: str = ""

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True)
class ModelShape:
    """Widths in features, counts in whole numbers. `context` is the longest sequence that the model was made for, in tokens.

    With `experts`, `intermediate` is of one of them, and a token goes through `experts_used`. `fused`: one matrix makes queries, keys and
    values, and one gate and up. `beside` are weights of a part that text does not go through, such as one that sees.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    context: int
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: int = 0
    norms: int = 2
    norm_bias: bool = False
    fused: bool = False
    experts: int = 0
    experts_used: int = 1
    expert_bias: bool = False
    sinks: bool = False
    beside: int = 0

    @cached_property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one block, with the names that adapters' targets refer to. Experts are none: they are kept as one parameter."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        output = Linear("o_proj", queries, self.hidden, self.output_bias, "attended")
        if self.fused:
            attention = [Linear("qkv_proj", self.hidden, queries + 2 * keys, self.qkv_bias, "normed"), output]
            gated = [Linear("gate_up_proj", self.hidden, 2 * self.intermediate, group="fed")]
        else:
            attention = [
                Linear("q_proj", self.hidden, queries, self.qkv_bias, "normed"),
                Linear("k_proj", self.hidden, keys, self.qkv_bias, "normed"),
                Linear("v_proj", self.hidden, keys, self.qkv_bias, "normed"),
                output,
            ]
            gated = [Linear(name, self.hidden, self.intermediate, group="fed") for name in ("gate_proj", "up_proj")]
        if self.experts:
            return tuple(attention)
        return (*attention, *gated, Linear("down_proj", self.intermediate, self.hidden, group="gated"))

    @property
    def block_weights(self) -> int:
        """Weights of the linear layers of all blocks: what quantisation makes small."""
        return self.layers * sum(linear.weights for linear in self.linears)

    @property
    def expert_weights(self) -> int:
        """Weights of all experts and of what chooses among them, which no quantisation touches."""
        biases = 2 * self.intermediate + self.hidden if self.expert_bias else 0
        each = 3 * self.hidden * self.intermediate + biases
        router = self.hidden + (1 if self.expert_bias else 0)
        return self.layers * self.experts * (each + router)

    @property
    def expert_block(self) -> int:
        """Weights of the experts of one block."""
        return self.expert_weights // self.layers

    @property
    def used_weights(self) -> int:
        """Weights of all blocks that a token meets."""
        return self.block_weights + 3 * self.hidden * self.intermediate * self.layers * (
            self.experts_used if self.experts else 0
        )

    @property
    def embedding(self) -> int:
        """Weights of the embedding and, where it is a matrix of its own, of the output layer."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def small_weights(self) -> int:
        """Norms, biases and attention's sinks."""
        norm = self.hidden * (2 if self.norm_bias else 1)
        biases = sum(linear.outputs for linear in self.linears if linear.bias)
        return self.layers * (self.norms * norm + biases + self.qk_norm + (self.heads if self.sinks else 0)) + norm

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        return self.block_weights + self.expert_weights + self.embedding + self.small_weights + self.beside
