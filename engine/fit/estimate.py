"""Will a run fit, and how long will it take: the answer for each GPU.

What the profile leaves to "auto" is chosen here: the micro-batch and whether activations are recomputed, whichever is fastest of what fits. How
much memory a step takes is asked of a predictor: formulas, answers that are known, or a simulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from engine import machine
from engine.fit import asking, search, shapes, speed
from engine.fit.cards import SLICE, Card
from engine.fit.facts import Facts
from engine.fit.ladder import MOST_GPUS, Rung, ladder
from engine.fit.predicting import ClosedForm, Predicted, Predictor, Source
from engine.fit.question import Machine, Part, Phase, Question
from engine.placing import Sharding, ranks_asked, sharding_asked
from engine.profile import Profile
from engine.steps import total_steps

MIB: Final = 1 << 20
# CUDA's own; 141 MiB on a T4, more with more cores; where a card's is known, profiles/gpus or the ledger says it.
CONTEXT_MIB: Final = 400.0
USUAL_SHARE: Final = 0.6  # of the power that a card is made for; training seldom takes less
KWH: Final = 3.6e6  # joules
USUAL: Final = (8, 0)  # CUDA's capability of a card that is not known
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
    does; `longest_tokens` are those of the longest rows that fit one at a time. `question` is what `source` answered. `seconds` of the run,
    `step_seconds`, `tokens_per_second` of all ranks and `kwh` (each from, to) are None where the card's speed is not known.
    """

    name: str
    uuid: str
    total_mib: float
    free_mib: float
    fits: bool
    headroom_mib: float
    micro_batch: int
    micro_batch_max: int
    longest_tokens: int
    checkpoint_activations: bool
    ranks: int
    sharding: Sharding
    source: Source
    predicted_allocated_mib: float
    predicted_reserved_mib: float
    predicted_process_mib: float
    parts: Parts
    phases: Mapping[Phase, tuple[float, float]]
    seconds: tuple[float, float] | None
    step_seconds: tuple[float, float] | None
    tokens_per_second: tuple[float, float] | None
    kwh: tuple[float, float] | None
    ladder: tuple[Rung, ...]
    question: Question


@dataclass(frozen=True)
class Estimate:
    """`steps` optimizer steps take `seconds` (from, to) on the first GPU, or on the CPU where `cpu` is set; `source` is that one's too."""

    source: Source
    steps: int
    seconds: tuple[float, float] | None
    gpus: tuple[GpuFit, ...]
    cpu: GpuFit | None

    @property
    def fits(self) -> tuple[GpuFit, ...]:
        """The answers a GPU, or the CPU's."""
        return self.gpus or ((self.cpu,) if self.cpu else ())


FORMULAS: Final = ClosedForm()


def estimate(
    profile: Profile, facts: Facts, cards: Sequence[Card], predictor: Predictor = FORMULAS, *, climb: bool = True
) -> Estimate:
    """The estimate for each card; without cards, for the CPU of this machine. `climb` as in `fit`.

    Raises:
        Problem: the predictor cannot tell, such as formulas of an architecture that they do not understand ("shape").
    """
    fits = tuple(fit(profile, facts, card, predictor, beside=cards, climb=climb) for card in cards)
    cpu = None if cards else fit(profile, facts, this_cpu(), predictor, climb=climb)
    first = cpu or fits[0]
    return Estimate(first.source, total_steps(facts.train_rows, profile.training), first.seconds, fits, cpu)


def this_cpu() -> Card:
    """This machine's main memory as something to fit a run to."""
    total, free = machine.memory()
    return Card("CPU", "cpu", total / MIB, free / MIB, None)


def fit(
    profile: Profile,
    facts: Facts,
    card: Card,
    predictor: Predictor = FORMULAS,
    *,
    beside: Sequence[Card] = (),
    climb: bool = True,
) -> GpuFit:
    """The answer for one card; `climb` also looks for changes that make it fit, or faster, spread over the cards `beside` it too.

    Raises:
        Problem: the predictor cannot tell.
    """
    case = _Case(profile, facts, card, predictor, _machine(card, profile))
    found = case.answer()
    if found.ranks > 1 and not found.fits and sharding_asked(profile, found.ranks) == "auto":
        case = replace(case, machine=replace(case.machine, sharding="shard"))
        found = case.answer()
    if not climb:
        return found

    def again(changed: Profile) -> GpuFit:
        return fit(changed, facts, _together(card, beside, changed), predictor, climb=False)

    # A process sees one slice of a GPU, and slices do not reach each other: https://docs.nvidia.com/datacenter/tesla/mig-user-guide/
    gpus = 1 if SLICE.fullmatch(card.name) else len(beside) if card.uuid else MOST_GPUS
    return replace(found, longest_tokens=case.longest(found), ladder=ladder(profile, found, again, gpus))


def _together(card: Card, beside: Sequence[Card], profile: Profile) -> Card:
    """Of the cards that a run of several ranks takes, those with most free memory, the one with least; as slow as the slowest, which the others
    wait for.
    """
    ranks = ranks_asked(profile)
    if ranks == 1 or not card.uuid:
        return card
    taken = sorted(beside, key=lambda one: -one.free_mib)[:ranks]
    slowest = min(taken, key=lambda one: one.spec.tflops(profile.model.dtype) if one.spec else 0.0)
    least = taken[-1]
    as_slow = replace(least, spec=slowest.spec, efficiency=slowest.efficiency, watts=slowest.watts)
    return replace(as_slow, context_mib=context_mib(least))


def _machine(card: Card, profile: Profile) -> Machine:
    ranks = ranks_asked(profile)
    asked = sharding_asked(profile, ranks)
    capability = None if card.uuid == "cpu" else card.capability or USUAL
    return Machine(capability, ranks, "replicate" if asked == "auto" else asked)


@dataclass(frozen=True)
class _Case:
    """A profile on a card, and who is asked."""

    profile: Profile
    facts: Facts
    card: Card
    predictor: Predictor
    machine: Machine

    def answer(self) -> GpuFit:
        """For what the profile says and auto chooses."""
        profile, card = self.profile, self.card
        rows, checkpointing = search.choose(profile, self.facts, self.machine, self.fits, self._mean_seconds)
        question = self._asked(rows, checkpointing)
        found = self.predictor.predict(question)
        process = process_mib(found, card)
        times = self._times(question)
        return GpuFit(
            name=card.name,
            uuid=card.uuid,
            total_mib=card.total_mib,
            free_mib=card.free_mib,
            fits=process <= self._limit,
            headroom_mib=card.free_mib - process,
            micro_batch=rows,
            micro_batch_max=search.largest(
                sorted({rows, *search.sizes(profile, self.machine)}),
                lambda size: self.fits(self._asked(size, checkpointing)),
            ),
            longest_tokens=0,
            checkpoint_activations=checkpointing,
            ranks=self.machine.ranks,
            sharding=self.machine.sharding,
            source=found.source,
            predicted_allocated_mib=found.allocated / MIB,
            predicted_reserved_mib=found.reserved / MIB,
            predicted_process_mib=process,
            parts=_parts(found, process, context_mib(card)),
            phases={phase: (most / MIB, kept / MIB) for phase, (most, kept) in found.phases.items()},
            seconds=times.run if times else None,
            step_seconds=times.step if times else None,
            tokens_per_second=times.tokens_per_second if times else None,
            kwh=self._kwh(times.run) if times else None,
            ladder=(),
            question=question,
        )

    def fits(self, question: Question) -> bool:
        """Whether the process leaves the headroom free."""
        return process_mib(self.predictor.predict(question), self.card) <= self._limit

    def longest(self, found: GpuFit) -> int:
        """Tokens of the longest rows that fit one at a time, within the model; activations recomputed where the profile allows it."""
        limit = shapes.context_of(self.facts.config) or self.facts.max_tokens
        question = self._asked(1, search.ways(self.profile)[-1])
        return search.longest(question, self.fits, limit)

    @property
    def _limit(self) -> float:
        return self.card.free_mib - self.profile.hardware.headroom_mib

    def _asked(self, rows: int, checkpointing: bool) -> Question:
        return asking.question(self.profile, self.facts, rows=rows, checkpointing=checkpointing, machine=self.machine)

    def _times(self, question: Question) -> speed.Times | None:
        return speed.times(question, self.profile, self.facts, self.card)

    def _kwh(self, seconds: tuple[float, float]) -> tuple[float, float] | None:
        """Of all ranks: by the power that runs took, else by that which the card is made for."""
        spec = self.card.spec
        watts = self.card.watts or ((USUAL_SHARE * spec.watts, spec.watts) if spec else None)
        ranks = self.machine.ranks
        return (ranks * seconds[0] * watts[0] / KWH, ranks * seconds[1] * watts[1] / KWH) if watts else None

    def _mean_seconds(self, question: Question) -> float | None:
        """To choose by; none on a CPU, whose rate is measured anew and whose choice is to stay the same."""
        found = self._times(question) if self.machine.capability else None
        return sum(found.run) / 2 if found else None


def process_mib(found: Predicted, card: Card) -> float:
    """Memory of the whole process in MiB: what the allocator reserves, and the context."""
    return found.reserved / MIB + context_mib(card)


def context_mib(card: Card) -> float:
    """What a process holds before it has a tensor: measured on this machine, or of this kind of card, or assumed."""
    if card.uuid == "cpu":
        return LIBRARIES_MIB
    return card.context_mib or (card.spec.context_mib if card.spec else None) or CONTEXT_MIB


def _parts(found: Predicted, process: float, context: float) -> Parts:
    values = {part.value: found.parts.get(part, 0.0) / MIB for part in Part}
    values["temporaries"] += process - context - found.allocated / MIB
    return Parts(**values, context=context)
