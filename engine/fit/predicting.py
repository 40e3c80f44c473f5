"""Who can say how much memory a question's step takes: closed formulas at once, or a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal, Protocol

from engine.fit import memory, setup
from engine.fit.question import Part, Phase, Question

Source = Literal["simulated", "interpolated", "estimated"]
# What the allocator reserves beside what tensors need, in segments that grow (expandable_segments, which the engine asks for): simulated steps
# of a 0.6B model with seven methods lie between 1.002 and 1.10 times, the more the smaller they are.
RESERVED: Final = 1.015
RESERVED_BYTES: Final = 80 << 20


@dataclass(frozen=True)
class Predicted:
    """Peaks in bytes, as `Answer` has them, and how they were come by. `phases` is empty where they are not told apart."""

    allocated: float
    reserved: float
    parts: Mapping[Part, float]
    phases: Mapping[Phase, tuple[float, float]]
    source: Source


class Predictor(Protocol):
    """Answers questions."""

    def predict(self, question: Question) -> Predicted:
        """The peaks.

        Raises:
            Problem: it cannot tell, such as formulas an architecture that they do not understand ("shape").
        """
        ...


@dataclass(frozen=True)
class ClosedForm:
    """Formulas over widths and lengths: at once, and without torch."""

    def predict(self, question: Question) -> Predicted:
        """See `engine.fit.memory`."""
        step = setup.of_question(question)
        peak = memory.peak(step)
        parts = {Part(name): value for name, value in asdict(peak).items() if name != "moment"}
        # On a CPU there is no such allocator: what is freed goes back.
        if question.machine.capability is None:
            return Predicted(peak.allocated, peak.allocated, parts, {}, "estimated")
        return Predicted(peak.allocated, RESERVED * peak.allocated + RESERVED_BYTES, parts, {}, "estimated")
