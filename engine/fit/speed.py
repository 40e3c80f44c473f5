"""How long an optimizer step takes: floating-point operations over the matrix rate, bytes over the bandwidth, and launches.

An interval, never a number: nobody reaches a card's published rate, and how near one comes depends on shapes, kernels and cooling. What runs
on this machine's GPUs reached makes it narrower.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from engine import machine
from engine.fit import setup
from engine.fit.cards import Card
from engine.fit.facts import Facts
from engine.fit.memory import LOSS_BYTES, block_bytes
from engine.fit.question import Question
from engine.fit.setup import FULL, Setup, optimizer_bytes, trainable, weight_bytes
from engine.process import threads
from engine.profile import Profile
from engine.steps import total_steps

EFFICIENCY: Final = (0.25, 0.50)
"""Share of the published matrix rate that matrix products reach in training, (surely, at best). Of large models on A100 and H100 whole steps
reach 0.3 to 0.5 (PaLM, arXiv:2204.02311, table 3)."""
TRAFFIC: Final = (8.0, 24.0)
"""How often each byte that autograd keeps goes through memory in a step, (at best, surely): what is between the products waits for that. Fitted
with `EFFICIENCY` and `LOGITS_TRAFFIC` to 57 measured steps on a T4, of which 52 are within what this makes of them."""
LOGITS_TRAFFIC: Final = (2.0, 6.0)  # the same of logits in float32
CPU_BYTES: Final = 10e9  # a second: one channel of DDR4, more of which only makes it faster
CPU_EFFICIENCY: Final = (0.15, 0.80)  # of the matrix rate measured here; small models stay far below it
UNPACKING: Final = (1.0, 4.0)  # times that unpacking weights takes longer than moving their bytes
STARTING: Final = (1.0, 4.0)  # and starting kernels than `LAUNCHES` say
LAUNCHES: Final = 120  # kernels a block starts, forward and backward, with adapters on all its layers
LAUNCH_SECONDS: Final = 8e-6  # of one on a GPU, seen from Python
# Of one on a CPU: what a step of a model of half a million parameters costs beside its arithmetic.
CPU_CALL_SECONDS: Final = 3e-5
PRODUCT: Final = 64  # rows and columns of a matrix product that OpenBLAS leaves to one thread


@dataclass(frozen=True)
class Rate:
    """What a device does: matrix operations a second (sure, best), bytes a second from its memory and between two of them, seconds to start
    a kernel. `traffic` 0: the operations are slowed down by all that is between the products. `measured`: whole runs came to them."""

    flops: tuple[float, float]
    bytes: float
    link: float
    launch: float
    traffic: int = 1
    measured: bool = False


@dataclass(frozen=True)
class Times:
    """Each from what it takes if all goes well to what it surely does not exceed: seconds of the run (training and validation together, without
    loading) and of an optimizer step, tokens a second of all ranks together."""

    run: tuple[float, float]
    step: tuple[float, float]
    tokens_per_second: tuple[float, float]


def times(question: Question, profile: Profile, facts: Facts, card: Card) -> Times | None:
    """How long a profile's run takes in the micro-batches of a question; None where the card's speed or the model's shape is not known."""
    rate = of_cpu() if card.uuid == "cpu" else of_card(card, profile.model.dtype)
    if rate is None or facts.shape is None:
        return None
    step = setup.of_question(question)
    training, pair = profile.training, facts.rows_per_example
    mean = min(facts.mean_tokens, float(step.tokens))
    examples = min(training.effective_batch, max(1, facts.train_rows))
    batch = -(-examples // step.ranks) * pair
    low, high = step_seconds(step, rate, batch=batch, mean_tokens=mean)
    steps = total_steps(facts.train_rows, training)
    passes = training.epochs if training.evaluate_every == "epoch" else steps / training.evaluate_every
    operations = passes * facts.validation_rows * pair * forward_flops(step, mean) / step.ranks
    sure, best = rate.flops
    tokens = examples * pair * mean
    return Times(
        (steps * low + operations / best, steps * high + operations / sure), (low, high), (tokens / high, tokens / low)
    )


def of_card(card: Card, dtype: str) -> Rate | None:
    """A GPU's rate for a profile's dtype; None where its figures are not known."""
    spec = card.spec
    if spec is None:
        return None
    sure, best = card.efficiency or EFFICIENCY
    flops = spec.tflops(dtype) * 1e12
    return Rate(
        (flops * sure, flops * best),
        spec.bandwidth_gb_s * 1e9,
        spec.link_gb_s * 1e9,
        LAUNCH_SECONDS,
        measured=card.efficiency is not None,
    )


@cache
def of_cpu() -> Rate:
    """This machine's rate: the best of many float32 products of one thread, milliseconds in all, times its cores.

    A product that several threads share takes up to 60 times as long where another process has one of their cores: they wait for each other.
    These are too small to be shared, and one that nobody disturbs is enough.
    """
    matrix = np.ones((PRODUCT, PRODUCT), np.float32)
    seconds = []
    for _ in range(300):
        begin = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - begin)
    cores = max(1, threads() // (2 if machine.shares_cores() else 1))
    flops = cores * 2 * PRODUCT**3 / max(min(seconds), 1e-7)
    return Rate(
        (flops * CPU_EFFICIENCY[0], flops * CPU_EFFICIENCY[1]), CPU_BYTES, CPU_BYTES, CPU_CALL_SECONDS, traffic=0
    )


def forward_flops(step: Setup, tokens: float) -> float:
    """Floating-point operations of one row of `tokens` going forward: two a weight and token, and attention to half of the row."""
    return _weight_flops(step, tokens) + _attention_flops(step, tokens)


def row_flops(step: Setup, tokens: float) -> float:
    """Operations of one row in an optimizer step: forward, backward through activations and (where trained) weights, recomputation.

    Counted as `engine.train.flops` does, and what is recomputed besides.
    """
    again = 1 if step.checkpointing else 0
    passes = (3 if step.trains == "all" else 2) + again
    adapter = 6 * trainable(step) * tokens if step.trains == "lora" else 0
    return passes * _weight_flops(step, tokens) + (3 + again) * _attention_flops(step, tokens) + adapter


def _weight_flops(step: Setup, tokens: float) -> float:
    scored = min(step.scored / step.rows, tokens)
    return 2 * step.shape.used_weights * tokens + 2 * scored * step.shape.vocabulary * step.shape.hidden


def _attention_flops(step: Setup, tokens: float) -> float:
    return 2 * tokens * tokens * step.shape.heads * step.shape.head_dim * step.shape.layers


def step_seconds(step: Setup, rate: Rate, *, batch: int, mean_tokens: float) -> tuple[float, float]:
    """Seconds of one optimizer step in which a rank does `batch` rows: (if all goes well, surely)."""
    sure, best = rate.flops
    between = _between_seconds(step, rate, forwards := _forwards(step, batch, mean_tokens))
    if rate.measured:
        operations = batch * row_flops(step, mean_tokens)
        return operations / best + between / 2, operations / sure + between
    longest = min(float(step.tokens), 1.15 * mean_tokens)  # rows of like length share a micro-batch: little padding
    reading = forwards * _passes(step) * weight_bytes(step) / step.held / rate.bytes
    updating = _updating_bytes(step) / rate.bytes
    unpacking = forwards * _unpacking_bytes(step) / rate.bytes
    starting = forwards * LAUNCHES * step.shape.layers * rate.launch * _passes(step) / 2
    low, high = (
        max(batch * row_flops(step, tokens) / flops, reading)
        + batch * tokens * _traffic_bytes(step, way) / rate.bytes * rate.traffic
        + updating
        + UNPACKING[way] * unpacking
        + STARTING[way] * starting
        for way, tokens, flops in ((0, mean_tokens, best), (1, longest, sure))
    )
    return low + between / 2, high + between  # at best half of it goes on while something is computed


def _forwards(step: Setup, batch: int, mean_tokens: float) -> float:
    """Micro-batches of an optimizer step."""
    if step.packed:
        return max(1.0, batch * mean_tokens / (step.rows * step.tokens))
    return -(-batch // step.rows)


def _traffic_bytes(step: Setup, way: int) -> float:
    """What a token of a row moves between the matrix products, at best (0) or surely (1)."""
    kept = block_bytes(step) * step.shape.layers * _passes(step) / 2
    logits = LOSS_BYTES * step.scored * step.shape.vocabulary
    return (TRAFFIC[way] * kept + LOGITS_TRAFFIC[way] * logits) / (step.rows * step.tokens)


def _passes(step: Setup) -> int:
    return 3 if step.checkpointing else 2


def _unpacking_bytes(step: Setup) -> float:
    """Quantised weights written and read unpacked, at each pass of a micro-batch."""
    return 0.0 if step.bits is None else _passes(step) * step.shape.block_weights * 2 * step.compute


def _updating_bytes(step: Setup) -> float:
    """Weights, gradients and state read once for the norm and once for the update, and written."""
    return trainable(step) * step.held * 5 * FULL + 2 * optimizer_bytes(step)


def _between_seconds(step: Setup, rate: Rate, forwards: float) -> float:
    """What each rank sends: gradients once a step to be summed and spread; cut weights at each pass, and their gradients back."""
    if step.ranks == 1:
        return 0.0
    share = (step.ranks - 1) / step.ranks
    gradients = FULL * trainable(step)
    if not step.sharded:
        return 2 * share * gradients / rate.link
    return forwards * share * (_passes(step) * weight_bytes(step) / step.held + gradients) / rate.link
