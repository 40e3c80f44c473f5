"""Will a run fit, and how long will it take: the answer for each GPU, from closed formulas (`source` says so).

What the profile leaves to "auto" is chosen here: the largest micro-batch that fits, activations recomputed only where it does not fit
otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from engine import machine
from engine.errors import Problem
from engine.fit import memory, speed
from engine.fit.cards import Card
from engine.fit.facts import Facts
from engine.fit.ladder import Rung, ladder
from engine.fit.memory import Peak, Setup
from engine.profile import Profile
from engine.steps import total_steps

MIB: Final = 1 << 20
MOST_ROWS: Final = 64  # a larger micro-batch gains nothing on one GPU
MOST_ROWS_CPU: Final = 8  # nor on a CPU
# CUDA's own; 141 MiB on a T4, more with more cores; where a card's is known, profiles/gpus says it.
CONTEXT_MIB: Final = 400.0
RESERVED: Final = {(False, False): 1.07, (False, True): 1.13, (True, False): 1.18, (True, True): 1.26}
"""What PyTorch's allocator reserves over what tensors need, by (eager attention, 4-bit base): fitted, the medians of 57 measured steps on a
T4, whose ranges are 1.04 to 1.09, 1.06 to 1.25, 1.05 to 1.49 and 1.10 to 1.44."""
LIBRARIES_MIB: Final = 450.0  # torch, transformers and peft in a process on the CPU, before a model: measured


@dataclass(frozen=True)
class Parts:
    """What a step's peak consists of, in MiB. `context` is CUDA's (on a CPU: the libraries'), `temporaries` include what the allocator keeps."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    temporaries: float
    context: float


@dataclass(frozen=True)
class GpuFit:
    """The answer for one GPU. Memory in MiB; `headroom_mib` is what stays free (below 0: what is missing).

    `micro_batch` and `checkpoint_activations` are the profile's, or what auto chooses; `micro_batch_max` is the largest that fits, 0 if none
    does. `seconds` (from, to) is None where the card's speed is not known; `kwh` likewise.
    """

    name: str
    uuid: str
    total_mib: float
    free_mib: float
    fits: bool
    headroom_mib: float
    micro_batch: int
    micro_batch_max: int
    checkpoint_activations: bool
    predicted_allocated_mib: float
    predicted_reserved_mib: float
    predicted_process_mib: float
    parts: Parts
    seconds: tuple[float, float] | None
    kwh: tuple[float, float] | None
    ladder: tuple[Rung, ...]


@dataclass(frozen=True)
class Estimate:
    """`steps` optimizer steps take `seconds` (from, to) on the first GPU, or on the CPU where `cpu` is set."""

    source: str
    steps: int
    seconds: tuple[float, float] | None
    gpus: tuple[GpuFit, ...]
    cpu: GpuFit | None

    @property
    def fits(self) -> tuple[GpuFit, ...]:
        """The answers a GPU, or the CPU's."""
        return self.gpus or ((self.cpu,) if self.cpu else ())


def estimate(profile: Profile, facts: Facts, cards: Sequence[Card]) -> Estimate:
    """The estimate for each card; without cards, for the CPU of this machine.

    Raises:
        Problem: the model's architecture is not understood ("shape").
    """
    if facts.shape is None:
        raise Problem(
            "The memory of this model cannot be estimated", facts.no_shape, "It may train all the same.", code="shape"
        )
    fits = tuple(fit(profile, facts, card) for card in cards)
    cpu = None if cards else fit(profile, facts, this_cpu())
    seconds = next((found.seconds for found in (*fits, cpu) if found), None)
    return Estimate("estimated", total_steps(facts.train_rows, profile.training), seconds, fits, cpu)


def this_cpu() -> Card:
    """This machine's main memory as something to fit a run to."""
    total, free = machine.memory()
    return Card("CPU", "cpu", total / MIB, free / MIB, None)


def divisors(batch: int, most: int = MOST_ROWS) -> list[int]:
    """The micro-batches that make up an effective batch, largest first."""
    return [rows for rows in range(min(batch, most), 0, -1) if batch % rows == 0]


def fit(profile: Profile, facts: Facts, card: Card, *, climb: bool = True) -> GpuFit:
    """The answer for one card; `climb` also looks for changes that make it fit, or faster."""
    rows, checkpointing = choose(profile, facts, card)
    step = setup(profile, facts, rows, checkpointing)
    peak = memory.peak(step)
    process = process_mib(step, card)
    limit = card.free_mib - profile.hardware.headroom_mib
    largest = next(
        (
            size
            for size in divisors(profile.training.effective_batch)
            if _fits(profile, facts, card, size, checkpointing)
        ),
        0,
    )
    seconds = run_seconds(profile, facts, card, step)
    watts = card.spec.watts if card.spec else None
    found = GpuFit(
        name=card.name,
        uuid=card.uuid,
        total_mib=card.total_mib,
        free_mib=card.free_mib,
        fits=process <= limit,
        headroom_mib=card.free_mib - process,
        micro_batch=rows,
        micro_batch_max=largest,
        checkpoint_activations=checkpointing,
        predicted_allocated_mib=peak.allocated / MIB,
        predicted_reserved_mib=process - context_mib(card),
        predicted_process_mib=process,
        parts=_parts(peak, process, context_mib(card)),
        seconds=seconds,
        kwh=(seconds[0] * 0.6 * watts / 3.6e6, seconds[1] * watts / 3.6e6) if seconds and watts else None,
        ladder=(),
    )
    if not climb:
        return found
    return replace(found, ladder=ladder(profile, found, lambda changed: fit(changed, facts, card, climb=False)))


def choose(profile: Profile, facts: Facts, card: Card) -> tuple[int, bool]:
    """Micro-batch and recomputation: the profile's own, or for auto the first that fits; if none does, what needs least."""
    training = profile.training
    most = MOST_ROWS_CPU if card.uuid == "cpu" else MOST_ROWS
    sizes = [training.micro_batch] if training.micro_batch != "auto" else divisors(training.effective_batch, most)
    either = [False, True] if profile.method.bears_recomputation else [False]
    ways = [training.checkpoint_activations] if training.checkpoint_activations != "auto" else either
    for checkpointing in ways:
        for rows in sizes:
            if _fits(profile, facts, card, rows, checkpointing):
                return rows, checkpointing
    return sizes[-1], ways[-1]


def setup(profile: Profile, facts: Facts, rows: int, checkpointing: bool) -> Setup:
    """The profile's step with this micro-batch, at its longest rows."""
    assert facts.shape is not None
    limit = profile.template.max_tokens
    tokens = facts.max_tokens if limit == "auto" else min(facts.max_tokens, limit)
    kept, row_tokens = facts.kept_tokens, profile.training.row_tokens
    if profile.training.packing is not False and isinstance(row_tokens, int) and row_tokens > tokens:
        tokens, kept = row_tokens, kept * row_tokens // tokens  # a packed row holds several of the longest
    rows = max(rows, facts.rows_per_example)  # the rows of an example are never parted
    return memory.setup(profile, facts.shape, rows=rows, tokens=tokens, kept=kept, checkpointing=checkpointing)


def _fits(profile: Profile, facts: Facts, card: Card, rows: int, checkpointing: bool) -> bool:
    step = setup(profile, facts, rows, checkpointing)
    return process_mib(step, card) <= card.free_mib - profile.hardware.headroom_mib


def process_mib(step: Setup, card: Card) -> float:
    """Memory of the whole process in MiB: the peak, what the allocator keeps beside it, and the context."""
    return process_of(memory.peak(step).allocated / MIB, step, card)


def process_of(allocated_mib: float, step: Setup, card: Card) -> float:
    """As `process_mib`, from a peak of allocated memory."""
    if card.uuid == "cpu":
        return allocated_mib + LIBRARIES_MIB
    return allocated_mib * RESERVED[step.eager, step.bits is not None] + context_mib(card)


def context_mib(card: Card) -> float:
    """What a process holds before it has a tensor."""
    if card.uuid == "cpu":
        return LIBRARIES_MIB
    return card.spec.context_mib if card.spec and card.spec.context_mib else CONTEXT_MIB


def run_seconds(profile: Profile, facts: Facts, card: Card, step: Setup) -> tuple[float, float] | None:
    """Training and validation together, without loading; (if all goes well, surely)."""
    rate = speed.of_cpu() if card.uuid == "cpu" else speed.of_card(card, profile.model.dtype)
    if rate is None:
        return None
    training = profile.training
    steps = total_steps(facts.train_rows, training)
    mean = min(facts.mean_tokens, float(step.tokens))
    batch = training.effective_batch * facts.rows_per_example
    low, high = speed.step_seconds(step, rate, batch=batch, mean_tokens=mean)
    every = training.evaluate_every
    passes = training.epochs if every == "epoch" else steps / every
    operations = passes * facts.validation_rows * facts.rows_per_example * speed.forward_flops(step, mean)
    sure, best = rate.flops
    return steps * low + operations / best, steps * high + operations / sure


def _parts(peak: Peak, process: float, context: float) -> Parts:
    values = {name: value / MIB for name, value in asdict(peak).items() if name != "moment"}
    values["temporaries"] += process - context - peak.allocated / MIB
    return Parts(**values, context=context)
