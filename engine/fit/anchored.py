"""Between simulated points: formulas, moved to where they meet the answers that are known for other micro-batches of the same run.

What a simulation says and formulas do not is nearly linear in the tokens of a micro-batch, as the peak itself is between the points where
another moment becomes the largest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from engine.errors import Problem
from engine.fit.predicting import ClosedForm, Predicted
from engine.fit.question import Answer, Part, Question, Step

FORMULAS: Final = ClosedForm()


class Answers(Protocol):
    """Who keeps answers: a `Simulator`."""

    def near(self, question: Question) -> Mapping[Step, Answer]:
        """Known answers to what differs from the question in rows, tokens and supervised tokens only."""
        ...


@dataclass(frozen=True)
class Anchored:
    """What is known, exactly or from points near by ("interpolated"); formulas where nothing is."""

    answers: Answers

    def predict(self, question: Question) -> Predicted:
        """The peaks.

        Raises:
            Problem: formulas do not understand the architecture, and fewer than two answers are known ("shape").
        """
        known = self.answers.near(question)
        if (answer := known.get(question.step)) is not None:
            return Predicted(answer.allocated, answer.reserved, answer.parts, answer.phases, "simulated")
        anchors = _around(question.step, known)
        try:
            formula = FORMULAS.predict(question)
        except Problem as problem:
            if problem.code != "shape" or len(anchors) < 2:
                raise
            formula = None
        return _moved(question, formula, anchors) if anchors or formula is None else formula


def _tokens(step: Step) -> int:
    return step.rows * step.tokens


def _around(step: Step, known: Mapping[Step, Answer]) -> dict[Step, Answer]:
    """The answers with the next fewer and the next more tokens, or the two with the nearest; the one answer there is."""
    nearest = sorted(known, key=lambda one: (abs(_tokens(one) - _tokens(step)), abs(one.supervised - step.supervised)))
    below = next((one for one in nearest if _tokens(one) <= _tokens(step)), None)
    above = next((one for one in nearest if _tokens(one) > _tokens(step)), None)
    first = below or above
    if first is None:
        return {}
    second = above if below and above else next((one for one in nearest if _tokens(one) != _tokens(first)), first)
    return {one: known[one] for one in (first, second)}


def _moved(question: Question, formula: Predicted | None, anchors: Mapping[Step, Answer]) -> Predicted:
    """The formula's parts, each moved by what it lacks at the anchors; without a formula, what the anchors say."""
    formulas = {step: FORMULAS.predict(replace(question, step=step)).parts if formula else {} for step in anchors}
    parts: dict[Part, float] = {}
    for part in Part:
        lacking = {_tokens(step): anchors[step].parts.get(part, 0) - formulas[step].get(part, 0.0) for step in anchors}
        own = formula.parts.get(part, 0.0) if formula else 0.0
        parts[part] = max(0.0, own + _on_line(lacking, _tokens(question.step)))
    allocated = sum(parts.values())
    nearest = min(anchors, key=lambda step: abs(_tokens(step) - _tokens(question.step)))
    kept = anchors[nearest].reserved / max(1, anchors[nearest].allocated)
    return Predicted(allocated, allocated * kept, parts, {}, "interpolated")


def _on_line(points: Mapping[int, float], where: int) -> float:
    """On the line through two points; the same everywhere if there is one."""
    (left, low), (right, high) = min(points.items()), max(points.items())
    return low if left == right else low + (high - low) * (where - left) / (right - left)
