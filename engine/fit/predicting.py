"""Who can say how much memory a question's step takes: closed formulas at once, or a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

from engine.fit import memory, setup
from engine.fit.question import Part, Phase, Question

Source = Literal["simulated", "interpolated", "estimated"]
RESERVED: Mapping[tuple[bool, bool], float] = {
    (False, False): 1.07,
    (False, True): 1.13,
    (True, False): 1.18,
    (True, True): 1.26,
}
"""What PyTorch's allocator reserves over what tensors need, by (eager attention, quantised base): fitted, the medians of 57 measured steps on a
T4, whose ranges are 1.04 to 1.09, 1.06 to 1.25, 1.05 to 1.49 and 1.10 to 1.44."""


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
        kept = 1.0 if question.machine.capability is None else RESERVED[step.eager, step.bits is not None]
        return Predicted(peak.allocated, peak.allocated * kept, parts, {}, "estimated")
