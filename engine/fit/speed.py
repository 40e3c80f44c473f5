"""How long an optimizer step takes: floating-point operations over the matrix rate, weights unpacked over the bandwidth, and launches.

An interval, never a number: nobody reaches a card's published rate, and how near one comes depends on shapes, kernels and cooling.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from engine.fit.cards import Card
from engine.fit.memory import Setup, trainable

EFFICIENCY: Final = (0.15, 0.50)
"""Share of the published matrix rate that training reaches: 57 measured steps on a T4 from 0.02 (tiny models, eager) to 0.26; 0.3 to 0.5
for large models on A100 and H100 (PaLM, arXiv:2204.02311, table 3)."""
CPU_BYTES: Final = 10e9  # a second: one channel of DDR4, more of which only makes it faster
CPU_EFFICIENCY: Final = (0.15, 0.80)  # of the matrix rate measured here; small models stay far below it
LAUNCHES: Final = 120  # kernels a block starts, forward and backward, with adapters on all its layers
LAUNCH_SECONDS: Final = 8e-6  # of one on a GPU, seen from Python
# Of one on a CPU: what a step of a model of half a million parameters costs beside its arithmetic.
CPU_CALL_SECONDS: Final = 3e-5


@dataclass(frozen=True)
class Rate:
    """What a device does: matrix operations a second (sure, best), bytes a second, seconds to start a kernel."""

    flops: tuple[float, float]
    bytes: float
    launch: float


def of_card(card: Card, dtype: str) -> Rate | None:
    """A GPU's rate for a profile's dtype; None where its figures are not known."""
    if card.spec is None:
        return None
    flops = card.spec.tflops(dtype) * 1e12
    return Rate((flops * EFFICIENCY[0], flops * EFFICIENCY[1]), card.spec.bandwidth_gb_s * 1e9, LAUNCH_SECONDS)


@cache
def of_cpu() -> Rate:
    """This machine's rate: the best of a few float32 products, a few hundredths of a second in all; others' work slows the rest."""
    matrix = np.ones((512, 512), np.float32)
    seconds = []
    for _ in range(6):  # the first starts NumPy's threads
        begin = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - begin)
    flops = 2 * 512**3 / max(min(seconds), 1e-6)
    return Rate((flops * CPU_EFFICIENCY[0], flops * CPU_EFFICIENCY[1]), CPU_BYTES, CPU_CALL_SECONDS)


def forward_flops(step: Setup, tokens: float) -> float:
    """Floating-point operations of one row of `tokens` going forward: two a weight and token, and attention to half of the row."""
    shape = step.shape
    kept = min(float(step.kept), tokens)
    layers = 2 * shape.block_weights * tokens + 2 * tokens * tokens * shape.heads * shape.head_dim * shape.layers
    return layers + 2 * kept * shape.vocabulary * shape.hidden


def row_flops(step: Setup, tokens: float) -> float:
    """Operations of one row in an optimizer step: forward, backward through activations and (where trained) weights, recomputation."""
    forward = forward_flops(step, tokens)
    passes = (3 if not step.rank else 2) + (1 if step.checkpointing else 0)
    adapter = 6 * trainable(step) * tokens if step.rank else 0
    return passes * forward + adapter


def step_seconds(step: Setup, rate: Rate, *, batch: int, mean_tokens: float) -> tuple[float, float]:
    """Seconds of one optimizer step over `batch` rows: (if all goes well, surely)."""
    forwards = -(-batch // step.rows)
    floor = forwards * (LAUNCHES * step.shape.layers * rate.launch + _unpacking_seconds(step, rate))
    sure, best = rate.flops
    longest = min(float(step.tokens), 1.15 * mean_tokens)  # rows of like length share a micro-batch: little padding
    return (
        batch * row_flops(step, mean_tokens) / best + floor,
        batch * row_flops(step, longest) / sure + 2 * floor,
    )


def _unpacking_seconds(step: Setup, rate: Rate) -> float:
    """Reading 4-bit weights and writing and reading them unpacked, at each pass of a micro-batch."""
    if step.bits is None:
        return 0.0
    passes = 3 if step.checkpointing else 2
    return passes * step.shape.block_weights * (step.bits / 8 + 2 * step.compute) / rate.bytes
