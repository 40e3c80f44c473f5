"""How much GPU memory an optimizer step takes, by closed formulas over the model's shape.

What PyTorch's autograd keeps is counted tensor by tensor for a block of the Llama family, in bytes a token; the peak is the largest of
three moments: the loss going backward through the output layer, the first block going backward, and the optimizer's update. Formulas after
LLMem (arXiv:2404.10933) and what 57 measured steps on a T4 show; a figure that is fitted says so. All results are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from engine.fit.setup import BITS_8, FULL, Setup, optimizer_bytes, trainable, weight_bytes

LOSS_BYTES: Final = 12  # a logit going backward: log-softmax, its gradient and the loss's gradient, float32 each
WORKSPACE: Final = 2 * 8.125 * 2**20  # cuBLAS: one for the forward and one for the backward thread


@dataclass(frozen=True)
class Peak:
    """Bytes at the moment that needs most; `moment` is loss, block or update."""

    moment: str
    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    temporaries: float

    @property
    def allocated(self) -> float:
        """What PyTorch calls allocated."""
        return (
            self.weights
            + self.adapter
            + self.gradients
            + self.optimizer
            + self.activations
            + self.logits
            + self.temporaries
        )


def block_bytes(step: Setup) -> float:
    """What one block keeps for its backward pass, over the whole micro-batch."""
    shape = step.shape
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    norms = shape.norms * shape.hidden * (FULL + (step.stream if step.trains == "all" else 0))
    head_norms = FULL * (queries + keys) if shape.qk_norm else 0
    # A padding mask makes the kernel take keys and values repeated to the queries' width; its output is kept, and a sum a head.
    attention = 4 * queries * step.compute + FULL * shape.heads
    scores = shape.heads * step.tokens * _score_bytes(step) if step.eager else 0
    gated = 3 * shape.intermediate * shape.experts_used * step.compute
    per_token = norms + head_norms + attention + scores + gated + _linear_inputs(step)
    return float(step.places * per_token) + _adapted_experts(step)


def _score_bytes(step: Setup) -> int:
    """What eager attention keeps of a score: its softmax in float32 and in the compute type; beside sinks in the compute type alone."""
    return step.compute if step.shape.sinks or step.compute == FULL else FULL + step.compute


def _linear_inputs(step: Setup) -> float:
    """Bytes a token of inputs that linear layers keep: where their weights are trained, or for their adapters, in float32."""
    shape = step.shape
    groups = [list(group) for _, group in groupby(shape.linears, lambda linear: linear.group)]
    if step.trains == "all":
        copied = step.stream != step.compute  # autocast makes a copy for each layer, else those of a group share
        inputs = sum(group[0].inputs * (len(group) if copied else 1) for group in groups)
        experts = shape.experts_used * (shape.hidden + shape.intermediate) if shape.experts else 0
        return step.compute * (inputs + experts)
    if step.trains == "ia3":  # what its scales multiply; keys and values in float32 besides
        keys = 2 * shape.kv_heads * shape.head_dim
        return float(step.compute * (keys + shape.intermediate) + FULL * keys)
    own = step.dropout or step.compute < FULL  # dropout and the turn to float32 make a copy for each adapter
    counts = [len([linear for linear in group if linear in step.adapted]) for group in groups]
    inputs = sum(
        (count if own else min(count, 1)) * group[0].inputs for count, group in zip(counts, groups, strict=True)
    )
    masks = sum(linear.inputs for linear in step.adapted) if step.dropout else 0
    return FULL * inputs + masks + FULL * step.rank * len(step.adapted)


def _held_inputs(step: Setup) -> float:
    """Inputs of a block's 8-bit layers, which bitsandbytes keeps by itself: recomputing activations does not let go of them."""
    if step.bits != BITS_8:
        return 0.0
    groups = (next(group) for _, group in groupby(step.shape.linears, lambda linear: linear.group))
    return float(step.places * step.compute * sum(linear.inputs for linear in groups))


def _adapted_experts(step: Setup) -> float:
    """All experts of a block with what their adapters add, which is how PEFT computes them: as a new weight that autograd keeps."""
    return float(step.shape.expert_block * step.compute) if step.adapts_experts else 0.0


def _kept_activations(step: Setup) -> float:
    """What all blocks together keep until they go backward."""
    entry = step.places * step.shape.hidden * step.stream
    return step.shape.layers * ((entry if step.checkpointing else block_bytes(step)) + _held_inputs(step))


def _backward_temporaries(step: Setup) -> float:
    """Gradients on their way through a block, and weights that are unpacked or gathered for it."""
    shape = step.shape
    # Softmax goes backward in float32: its gradient, the product with its output and the result; 16-bit ends need no third.
    backward = 2 * step.compute if shape.sinks else (3 if step.compute == FULL else 2) * FULL
    softmax = shape.heads * step.tokens * backward if step.eager else 0
    flowing = max(3 * shape.intermediate * shape.experts_used * step.compute, softmax)
    unpacked = float(max(linear.weights for linear in shape.linears) * step.compute) if step.bits else 0.0
    if step.stream != step.compute:  # autocast keeps 16-bit copies of the weights that a backward pass still needs
        blocks = shape.block_weights / shape.layers if step.checkpointing else shape.block_weights
        unpacked += (blocks + shape.vocabulary * shape.hidden) * step.compute
    if step.sharded:  # the block that computes and the one that is gathered meanwhile
        unpacked += 2 * (shape.block_weights / shape.layers + shape.expert_block) * step.base
    return step.places * (flowing + shape.hidden * step.stream) + unpacked + _adapted_experts(step)


def _head_gradient(step: Setup, *, in_parts: bool) -> float:
    """Where the head is trained: its weight and its gradient in the compute type, the gradient in float32, and where the head is applied in
    parts, their sum before and after one more."""
    if step.trains != "all" and "lm_head" not in step.whole:
        return 0.0
    narrow = 2 * step.compute if step.compute < FULL else 0
    return float(step.shape.vocabulary * step.shape.hidden * (narrow + FULL * (3 if in_parts else 1)))


def moments(step: Setup) -> tuple[Peak, ...]:
    """The moments that may need most memory, in the steady state (optimizer state is there)."""
    count = trainable(step) * step.held
    adapter = FULL * count if step.trains != "all" else 0
    gradients = float(FULL * count)
    resting = Peak("rest", weight_bytes(step), adapter, 0, optimizer_bytes(step), 0, 0, WORKSPACE)
    buckets = gradients if step.ranks > 1 and not step.sharded else 0.0  # in which replicas send them: always there
    standing = buckets + (gradients if step.accumulates else 0.0)
    kept = _kept_activations(step)
    together = min(step.scored, step.at_once)
    logits = float(together * step.shape.vocabulary * LOSS_BYTES)
    if together < step.scored:  # in parts: what goes into the head is kept for all of them
        logits += 2.0 * step.scored * step.shape.hidden * step.stream
    passing_head = resting.temporaries + _head_gradient(step, in_parts=together < step.scored)
    loss = replace(
        resting, moment="loss", gradients=standing, activations=kept, logits=logits, temporaries=passing_head
    )
    recomputed = block_bytes(step) if step.checkpointing else 0.0
    passing = resting.temporaries + recomputed + _backward_temporaries(step)
    first = replace(resting, moment="block", gradients=standing, activations=kept, temporaries=passing)
    last = replace(first, gradients=buckets + gradients, activations=kept / step.shape.layers)
    update = replace(resting, moment="update", gradients=buckets + gradients)  # the fused update allocates nothing
    return loss, first, last, update


def peak(step: Setup) -> Peak:
    """The moment that needs most memory."""
    return max(moments(step), key=lambda moment: moment.allocated)
