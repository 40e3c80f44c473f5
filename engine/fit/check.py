"""What is predicted of a run's memory now, held against what was measured when it trained: figure by figure and phase by phase.

It is asked for the very micro-batch that the run recorded as its costliest, so lengths that were guessed before the data were prepared play
no part: what differs is how a step's memory is predicted. What was predicted at launch stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from engine.assignment import profile_of
from engine.errors import Problem
from engine.fit import asking, estimate, history, recorded, shapes
from engine.fit.anchored import Anchored
from engine.fit.cards import Card, spec_of
from engine.fit.facts import Facts
from engine.fit.predicting import Predicted, Source
from engine.fit.question import Machine, Phase, Question, Step
from engine.fit.recorded import Figures
from engine.fit.simulator import Simulator
from engine.gpu import MIB
from engine.ledger import Ledger, events, runs
from engine.ledger.runs import Run
from engine.ledger.states import LIVE
from engine.profile import Profile

WITHIN: Final = 0.02  # of what was measured
SMALL: Final = 8.0  # MiB: a driver's own bookkeeping differs by it from start to start
GROWING: Final = (
    "expandable_segments:True"  # what `engine.turns.show_only` asks of torch, unless somebody asked for anything else
)


@dataclass(frozen=True)
class Row:
    """One figure in MiB: predicted when the run was started (`then`) and now, and measured; None is not known.

    `least`: the prediction is a lower bound. Not `judged` is what only explains another figure.
    """

    figure: str
    then: float | None
    now: float | None
    measured: float | None
    least: bool = False
    judged: bool = True

    @property
    def error(self) -> float | None:
        """How far `now` is from what was measured, as a share of that."""
        return (self.now - self.measured) / self.measured if self.now is not None and self.measured else None

    @property
    def holds(self) -> bool:
        """Whether that is near enough; what cannot be compared is not held against anybody."""
        if not self.judged or self.error is None or self.now is None or self.measured is None:
            return True
        if self.least and self.now < self.measured:
            return True
        return abs(self.error) <= WITHIN or abs(self.now - self.measured) <= SMALL


@dataclass(frozen=True)
class Check:
    """A run's figures: `rows` of the whole run, `phases` as (allocated, reserved) of each that was measured."""

    run: Run
    gpu: str
    source: Source
    step: Step
    rows: tuple[Row, ...]
    phases: Mapping[Phase, tuple[Row, Row]]
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the whole run's figures do; phases explain them and are not judged."""
        return all(row.holds for row in self.rows)


def check(ledger: Ledger, run: Run, simulator: Simulator) -> Check:
    """Predict again, simulating what was not simulated before, and compare; with formulas, and a note, where it cannot be simulated.

    Raises:
        Problem: nothing was measured of it, or of other micro-batches than it began with; its base is not to be had; nobody understands it.
    """
    document = runs.document(ledger, run)
    known = recorded.of(document.environment)
    if known.measured is None or known.step is None:
        raise _not_measured(run)
    if events.of_kind(ledger, run.id, "memory"):
        raise Problem(
            f"Memory ran out in {run.name}, and it went on with less at once",
            "What was measured is of smaller micro-batches than it was started with, and of the largest that did not fit.",
            f"See where: workbench runs show {run.name}",
            code="fit",
        )
    profile = profile_of(ledger, run)
    device = _device(document.environment)
    card = _card(ledger, device)
    machine = _machine(profile, card)
    notes = [f"{run.name} is {run.state}: peaks so far"] if run.state in LIVE else []
    found = _predicted(_question(profile, known.step, machine), simulator, notes)
    if machine.capability and card.context_mib is None:
        notes.append(
            f"what CUDA holds of {card.name} was never measured: a usual figure is taken. See: workbench doctor"
        )
    if machine.capability and GROWING not in device.get("allocation", GROWING):
        notes.append(f"it reserved memory in another way than is predicted, without {GROWING}")
    if machine.ranks > 1:
        notes.append(f"measured is the first of {machine.ranks} ranks")
    return Check(
        run=run,
        gpu=run.gpu,
        source=found.source,
        step=known.step,
        rows=_rows(known.predicted, found, known.measured, card),
        phases=_phases(known.predicted, found, known.measured),
        notes=tuple(notes),
    )


def _not_measured(run: Run) -> Problem:
    why = f"It comes from {run.source}." if run.source else f"It is {run.state} at step {run.step}."
    do = "" if run.source else "A run records it when it first saves and when it ends; older ones did not."
    return Problem(f"Nothing was measured of the memory of {run.name}", why, do, code="fit")


def _device(environment: Mapping[str, object]) -> dict[str, Any]:
    """What the run recorded of what it was trained on."""
    found = environment.get("device")
    return found if isinstance(found, dict) else {}


def _card(ledger: Ledger, device: Mapping[str, Any]) -> Card:
    """What the run was trained on."""
    if device.get("type") != "cuda":
        return estimate.this_cpu()
    name = str(device.get("name", "")).removeprefix("NVIDIA ")
    spec, total = spec_of(name), float(device.get("memory_mib") or 0.0)
    said = device.get("capability")
    capability = (int(said[0]), int(said[1])) if said else spec.capability if spec else None
    card = Card(name, str(device.get("uuid", "")), total, total, spec, capability)
    return replace(card, context_mib=history.context_mib(ledger, card))


def _machine(profile: Profile, card: Card) -> Machine:
    ranks, sharding = profile.hardware.ranks, profile.hardware.sharding
    capability = None if card.uuid == "cpu" else card.capability or estimate.USUAL
    return Machine(capability, ranks if isinstance(ranks, int) else 1, "shard" if sharding == "shard" else "replicate")


def _question(profile: Profile, step: Step, machine: Machine) -> Question:
    """The run's own step."""
    config = shapes.config_of(profile.model.base, profile.model.revision)
    facts = Facts(config, 1, 0, 0, step.tokens, float(step.tokens), 1)  # lengths are the recorded step's
    asked = asking.question(profile, facts, rows=step.rows, checkpointing=step.checkpointing, machine=machine)
    return replace(asked, step=step)


def _predicted(question: Question, simulator: Simulator, notes: list[str]) -> Predicted:
    try:
        simulator.ask(question)
    except Problem as problem:
        notes.append(f"it is not simulated: {problem.what}. {problem.why}".rstrip(". "))
    return Anchored(simulator).predict(question)


def _rows(then: Figures | None, now: Predicted, measured: Figures, card: Card) -> tuple[Row, ...]:
    then = then or Figures("")
    process, context = estimate.process_mib(now, card), estimate.context_mib(card)
    if card.uuid == "cpu":  # torch counts nothing there
        return (
            Row("context", then.context_mib, context, measured.context_mib, judged=False),
            Row("process", then.process_mib, process, measured.process_mib, least=True),
        )
    return (
        Row("allocated", then.allocated_mib, now.allocated / MIB, measured.allocated_mib),
        Row("reserved", then.reserved_mib, now.reserved / MIB, measured.reserved_mib),
        Row("context", then.context_mib, context, measured.context_mib, judged=False),
        Row("process", then.process_mib, process, measured.process_mib),
    )


def _phases(then: Figures | None, now: Predicted, measured: Figures) -> dict[Phase, tuple[Row, Row]]:
    found = {}
    for phase in Phase:
        if phase in measured.phases:
            before = then.phases.get(phase, (None, None)) if then else (None, None)
            predicted = now.phases.get(phase)
            sizes = (predicted[0] / MIB, predicted[1] / MIB) if predicted else (None, None)
            of_tensors, kept = (Row(phase, *three) for three in zip(before, sizes, measured.phases[phase], strict=True))
            found[phase] = (of_tensors, kept)
    return found
