"""How much GPU memory an optimizer step takes, by closed formulas over the model's shape.

What PyTorch's autograd keeps is counted tensor by tensor for a block of the Llama family, in bytes a token; the peak is the largest of
three moments: the loss going backward through the output layer, the first block going backward, and the optimizer's update. Formulas after
LLMem (arXiv:2404.10933) and what 57 measured steps on a T4 show; a figure that is fitted says so. All results are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from engine.fit.shapes import Linear, ModelShape
from engine.profile import Profile

FULL: Final = 4  # bytes of a float32
BITS_4: Final = 4 + 32 / 64  # bits a weight: 4-bit blocks of 64 with a float32 scale each (QLoRA, arXiv:2305.14314)
BITS_4_DOUBLE: Final = 4 + 8 / 64 + 32 / (64 * 256)  # the scales quantised too: 8 bits, and a float32 for 256 of them
LOSS_BYTES: Final = 12  # a logit going backward: log-softmax, its gradient and the loss's gradient, float32 each
GROUPS: Final = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
"""Linear layers that read the same tensor."""
WORKSPACE: Final = 2 * 8.125 * 2**20  # cuBLAS: one for the forward and one for the backward thread


@dataclass(frozen=True)
class Setup:
    """What decides a step's memory. `rows` x `tokens` is the micro-batch; `kept` columns of it go through the output layer.

    `stream` is the bytes of a value between blocks, `compute` of one inside them; `base` of an unquantised base weight, `leftover` of
    what 4-bit quantisation leaves alone. `rank` 0 trains all weights.
    """

    shape: ModelShape
    rows: int
    tokens: int
    kept: int
    rank: int
    targets: frozenset[str]
    dora: bool
    dropout: bool
    bits: float | None
    base: int
    leftover: int
    stream: int
    compute: int
    optimizer: str
    eager: bool
    checkpointing: bool
    accumulates: bool

    @property
    def adapted(self) -> tuple[Linear, ...]:
        """The linear layers of a block that have an adapter."""
        return tuple(linear for linear in self.shape.linears if self.rank and linear.name in self.targets)


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


def setup(profile: Profile, shape: ModelShape, *, rows: int, tokens: int, kept: int, checkpointing: bool) -> Setup:
    """The step that the engine runs for a profile with this micro-batch (`rows` x `tokens`)."""
    model, method = profile.model, profile.method
    lora = method.name == "lora"
    half = 4 if model.dtype == "float32" else 2
    targets = (
        {linear.name for linear in shape.linears}
        if method.targets == "all-linear"
        else {name.rpartition(".")[2] for name in method.targets}
    )
    four_bit = BITS_4_DOUBLE if model.double_quantization else BITS_4
    return Setup(
        shape=shape,
        rows=rows,
        tokens=tokens,
        kept=min(kept, tokens),
        rank=method.rank if lora else 0,
        targets=frozenset(targets),
        dora=method.dora,
        dropout=method.dropout > 0,
        bits=None if model.quantization == "none" else four_bit,
        base=half if lora else FULL,
        leftover=half,
        stream=half if lora else FULL,
        compute=half,
        optimizer=profile.training.optimizer,
        eager=model.attention == "eager",
        checkpointing=checkpointing,
        accumulates=rows < profile.training.effective_batch,
    )


def trainable(step: Setup) -> int:
    """How many parameters are trained."""
    if not step.rank:
        return step.shape.parameters
    return step.shape.layers * sum(
        step.rank * (linear.inputs + linear.outputs) + (linear.outputs if step.dora else 0) for linear in step.adapted
    )


def weight_bytes(step: Setup) -> float:
    """The base model."""
    shape = step.shape
    if step.bits is None:
        return float(shape.parameters * step.base)
    return shape.block_weights * step.bits / 8 + (shape.embedding + shape.small_weights) * step.leftover


def optimizer_bytes(step: Setup) -> float:
    """The optimizer's state: two float32 moments, two 8-bit ones with their scales, or Adafactor's rows and columns."""
    count = trainable(step)
    match step.optimizer:
        case "adamw":
            return 2.0 * FULL * count
        case "adafactor":
            return float(FULL * _sides(step))
        case _:
            return 2 * count * (1 + FULL / 256)


def _sides(step: Setup) -> int:
    """Rows plus columns of all trained matrices."""
    if step.rank:
        return step.shape.layers * sum(2 * step.rank + linear.inputs + linear.outputs for linear in step.adapted)
    blocks = step.shape.layers * sum(linear.inputs + linear.outputs for linear in step.shape.linears)
    return blocks + 2 * (step.shape.vocabulary + step.shape.hidden)


def block_bytes(step: Setup) -> float:
    """What one block keeps for its backward pass, over the whole micro-batch."""
    shape = step.shape
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    norms = 2 * shape.hidden * (FULL + (0 if step.rank else step.stream))
    head_norms = FULL * (queries + keys) if shape.qk_norm else 0
    # A padding mask makes the kernel take keys and values repeated to the queries' width; its output is kept, and a sum a head.
    attention = 4 * queries * step.compute + FULL * shape.heads
    scores = shape.heads * step.tokens * (FULL + (step.compute if step.compute < FULL else 0)) if step.eager else 0
    gated = 3 * shape.intermediate * step.compute
    per_token = norms + head_norms + attention + scores + gated + _linear_inputs(step)
    return float(step.rows * step.tokens * per_token)


def _linear_inputs(step: Setup) -> float:
    """Bytes a token of inputs that linear layers keep: where their weights are trained, or for their adapters, in float32."""
    widths = {linear.name: linear.inputs for linear in step.shape.linears}
    if not step.rank:
        copied = step.stream != step.compute  # autocast makes a copy for each layer, else those of a group share
        return step.compute * sum(widths[name] for group in GROUPS for name in (group if copied else group[:1]))
    adapted = {linear.name for linear in step.adapted}
    own = step.dropout or step.compute < FULL  # dropout and the turn to float32 make a copy for each adapter
    counts = [len(adapted & set(group)) if own else bool(adapted & set(group)) for group in GROUPS]
    inputs = sum(count * widths[group[0]] for count, group in zip(counts, GROUPS, strict=True))
    masks = sum(widths[name] for name in adapted) if step.dropout else 0
    return FULL * inputs + masks + FULL * step.rank * len(adapted)


def _kept_activations(step: Setup) -> float:
    """What all blocks together keep until they go backward."""
    entry = step.rows * step.tokens * step.shape.hidden * step.stream
    return step.shape.layers * (entry if step.checkpointing else block_bytes(step))


def _backward_temporaries(step: Setup) -> float:
    """Gradients on their way through a block, and a quantised layer's weights unpacked."""
    shape = step.shape
    # Softmax goes backward in float32: its gradient, the product with its output and the result; 16-bit ends need no third.
    softmax = shape.heads * step.tokens * (3 if step.compute == FULL else 2) * FULL if step.eager else 0
    flowing = max(3 * shape.intermediate * step.compute, softmax)
    unpacked = float(max(linear.weights for linear in shape.linears) * step.compute) if step.bits else 0.0
    if step.stream != step.compute:  # autocast keeps 16-bit copies of the weights that a backward pass still needs
        blocks = shape.block_weights / shape.layers if step.checkpointing else shape.block_weights
        unpacked += (blocks + shape.vocabulary * shape.hidden) * step.compute
    return step.rows * step.tokens * (flowing + shape.hidden * step.stream) + unpacked


def moments(step: Setup) -> tuple[Peak, ...]:
    """The moments that may need most memory, in the steady state (optimizer state is there)."""
    adapter = FULL * trainable(step) if step.rank else 0
    gradients = float(FULL * trainable(step))
    resting = Peak("rest", weight_bytes(step), adapter, 0, optimizer_bytes(step), 0, 0, WORKSPACE)
    standing = gradients if step.accumulates else 0.0
    kept = _kept_activations(step)
    logits = float(step.rows * step.kept * step.shape.vocabulary * LOSS_BYTES)
    loss = replace(resting, moment="loss", gradients=standing, activations=kept, logits=logits)
    recomputed = block_bytes(step) if step.checkpointing else 0.0
    passing = resting.temporaries + _backward_temporaries(step)
    first = replace(resting, moment="block", gradients=standing, activations=kept + recomputed, temporaries=passing)
    last = replace(first, gradients=gradients, activations=kept / step.shape.layers + recomputed)
    updating = gradients if step.optimizer == "adamw" else 0.0  # the square roots of all second moments at once
    update = replace(resting, moment="update", gradients=gradients, temporaries=resting.temporaries + updating)
    return loss, first, last, update


def peak(step: Setup) -> Peak:
    """The moment that needs most memory."""
    return max(moments(step), key=lambda moment: moment.allocated)
