"""The step that the closed formulas speak of: a question put into widths and bytes, and what of it stands for the whole run.

Weights, what is trained of them, and the optimizer's state are counted here; what passes during a step is `engine.fit.memory`'s. All
results are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from engine.fit import shapes
from engine.fit.question import Question
from engine.fit.shape import Linear, ModelShape

Trains = Literal["all", "lora", "ia3", "prompt"]

FULL: Final = 4  # bytes of a float32
BITS_4: Final = 4 + 32 / 64  # bits a weight: 4-bit blocks of 64 with a float32 scale each (QLoRA, arXiv:2305.14314)
BITS_4_DOUBLE: Final = 4 + 8 / 64 + 32 / (64 * 256)  # the scales quantised too: 8 bits, and a float32 for 256 of them
BITS_8: Final = 8.0  # LLM.int8 (arXiv:2208.07339): a float32 a row besides, which is next to nothing
AT_ONCE: Final = 2**25  # logits that the engine has in memory together; see engine.train.scorer
EXPERTS: Final = "experts"  # among targets: those of a layer, which are one parameter
OWN_HEAD: Final = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Keys of a config.json that say that the model does more to its logits than its head: the engine then leaves them whole to it."""


@dataclass(frozen=True)
class Setup:
    """What decides a step's memory. `rows` x `tokens` is the micro-batch; `scored` places of it are supervised and go through the head, at most
    `at_once` of them together.

    `stream` is the bytes of a value between blocks, `compute` of one inside them; `base` of an unquantised base weight, `leftover` of
    what quantisation leaves alone; `bits` of a quantised weight. Each of `ranks` holds the whole model, or with `sharded` a part.
    """

    shape: ModelShape
    rows: int
    tokens: int
    scored: int
    at_once: int
    trains: Trains
    rank: int
    targets: frozenset[str]
    dora: bool
    dropout: bool
    virtual: int
    whole: frozenset[str]
    bits: float | None
    base: int
    leftover: int
    stream: int
    compute: int
    optimizer: str
    eager: bool
    checkpointing: bool
    accumulates: bool
    packed: bool = False
    ranks: int = 1
    sharded: bool = False

    @cached_property
    def adapted(self) -> tuple[Linear, ...]:
        """The linear layers of a block that have an adapter."""
        return tuple(linear for linear in self.shape.linears if self.trains == "lora" and linear.name in self.targets)

    @property
    def adapts_experts(self) -> bool:
        """Whether the experts of its blocks have adapters."""
        return self.trains == "lora" and bool(self.shape.experts) and EXPERTS in self.targets

    @property
    def places(self) -> int:
        """Tokens of a micro-batch as the blocks see it, virtual ones with them."""
        return self.rows * (self.tokens + (self.virtual if self.trains == "prompt" else 0))

    @property
    def held(self) -> float:
        """The share of the model that a rank holds."""
        return 1 / self.ranks if self.sharded else 1.0


def of_question(question: Question) -> Setup:
    """The step that the engine runs for a question.

    Raises:
        Problem: an architecture that the formulas do not understand ("shape"), or a config.json that lacks a key ("model").
    """
    shape = shapes.from_config(question.config, "the base")
    model, method, step = question.model, question.method, question.step
    name, half = str(method["name"]), 4 if model["dtype"] == "float32" else 2
    trains = _trains(name)
    own_head = trains == "prompt" or any(question.config.get(key) for key in OWN_HEAD)
    return Setup(
        shape=shape,
        rows=step.rows,
        tokens=step.tokens,
        scored=min(step.supervised, step.rows * step.tokens),
        at_once=step.rows * step.tokens if own_head else max(1, AT_ONCE // shape.vocabulary),
        trains=trains,
        rank=_number(method.get("rank")),
        targets=_targets(method.get("targets"), shape),
        dora=bool(method.get("dora")),
        dropout=bool(method.get("dropout")),
        virtual=_number(method.get("virtual_tokens")),
        whole=_names(method.get("modules_to_save")),
        bits=_bits(str(model["quantization"]), bool(model.get("double_quantization"))),
        base=FULL if trains == "all" else half,
        leftover=half,
        stream=FULL if trains == "all" else half,
        compute=half,
        optimizer=str(question.training["optimizer"]),
        eager=model["attention"] == "eager" or shape.sinks,  # no other kernel has sinks
        checkpointing=step.checkpointing,
        accumulates=step.accumulates,
        packed=step.packed,
        ranks=question.machine.ranks,
        sharded=question.machine.sharding == "shard",
    )


def _trains(method: str) -> Trains:
    match method:
        case "full":
            return "all"
        case "lora":
            return "lora"
        case "ia3":
            return "ia3"
        case _:
            return "prompt"


def _bits(quantization: str, double: bool) -> float | None:
    match quantization:
        case "none":
            return None
        case "int8":
            return BITS_8
        case _:
            return BITS_4_DOUBLE if double else BITS_4


def _targets(targets: object, shape: ModelShape) -> frozenset[str]:
    if targets == "all-linear":
        return frozenset(linear.name for linear in shape.linears) | {EXPERTS}
    named = frozenset(name.rpartition(".")[2] for name in _names(targets))
    return named | ({EXPERTS} if shape.experts and named & {"gate_up_proj", "down_proj"} else frozenset())


def _names(value: object) -> frozenset[str]:
    return frozenset(map(str, value)) if isinstance(value, (list, tuple)) else frozenset()


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def trainable(step: Setup) -> int:
    """How many parameters are trained."""
    shape = step.shape
    match step.trains:
        case "all":
            return shape.parameters
        case "lora":
            beside = shape.layers * sum(
                step.rank * (linear.inputs + linear.outputs) + (linear.outputs if step.dora else 0)
                for linear in step.adapted
            )
            if step.adapts_experts:  # a pair of matrices for each expert's gate and up, and one for its down
                sides = 2 * shape.hidden + 3 * shape.intermediate
                beside += shape.layers * shape.experts * step.rank * sides
        case "ia3":  # a scale for keys, values and what the feed-forward part passes on
            beside = shape.layers * (2 * shape.kv_heads * shape.head_dim + shape.intermediate)
        case "prompt":  # at most: p_tuning has three square layers beside them, prefix keys and values for each block
            beside = step.virtual * max(shape.hidden, 2 * shape.layers * shape.kv_heads * shape.head_dim)
    return beside + whole_weights(step)


def whole_weights(step: Setup) -> int:
    """Weights of modules of the base that are trained whole, beside an adapter; those of the blocks are not told apart."""
    once = step.shape.vocabulary * step.shape.hidden
    return once * (1 if step.shape.tied else len(step.whole & {"embed_tokens", "lm_head"})) if step.whole else 0


def weight_bytes(step: Setup) -> float:
    """The base model, as a rank holds it."""
    shape = step.shape
    if step.bits is None:
        return shape.parameters * step.base * step.held
    rest = shape.parameters - shape.block_weights
    return (shape.block_weights * step.bits / 8 + rest * step.leftover) * step.held


def optimizer_bytes(step: Setup) -> float:
    """The optimizer's state: two float32 moments, two 8-bit ones with their scales, or Adafactor's rows and columns."""
    count = trainable(step) * step.held
    match step.optimizer:
        case "adamw":
            return 2.0 * FULL * count
        case "adafactor":
            return float(FULL * _sides(step)) * step.held
        case _:
            return 2 * count * (1 + FULL / 256)


def _sides(step: Setup) -> int:
    """Rows plus columns of all trained matrices."""
    shape = step.shape
    match step.trains:
        case "all":
            blocks = shape.layers * sum(linear.inputs + linear.outputs for linear in shape.linears)
            return blocks + 2 * (shape.vocabulary + shape.hidden)
        case "lora":
            return shape.layers * sum(2 * step.rank + linear.inputs + linear.outputs for linear in step.adapted)
        case _:
            return trainable(step)  # vectors, whose state is as large as they are
