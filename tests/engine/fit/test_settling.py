"""Choosing with simulated figures: asked until what is chosen was simulated, given up with a reason, and waited for where formulas know nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from engine.errors import Problem
from engine.fit import estimate, shapes
from engine.fit.anchored import FORMULAS
from engine.fit.cards import named
from engine.fit.facts import Facts
from engine.fit.predicting import ClosedForm
from engine.fit.question import Answer, Part, Question, Step
from engine.fit.settling import Waiting, settle
from engine.profile import Profile

PROFILE = Profile.model_validate({"model": {"base": "Qwen/Qwen3-4B"}, "data": [{"source": "rows.jsonl"}]})
FACTS = Facts(shapes.config_of("Qwen/Qwen3-4B"), 450, 50, 0, 1024, 600.0, 256)
UNKNOWN = replace(FACTS, config={"model_type": "mamba", "max_position_embeddings": 4096})


@dataclass
class Simulated:
    """As if a simulation found a third more than formulas do, or a gigabyte a row where there are none."""

    fails: Problem | None = None
    asked: list[Question] = field(default_factory=list)
    known: dict[str, dict[Step, Answer]] = field(default_factory=dict)

    def near(self, question: Question) -> Mapping[Step, Answer]:
        return self.known.get(self._family(question), {})

    def ask(self, question: Question, timeout: float = 0.0) -> Answer:
        self.asked.append(question)
        if self.fails:
            raise self.fails
        answer = self._answer(question)
        self.known.setdefault(self._family(question), {})[question.step] = answer
        return answer

    def _family(self, question: Question) -> str:
        return replace(question, step=replace(question.step, rows=0, tokens=0, supervised=0)).key

    def _answer(self, question: Question) -> Answer:
        try:
            parts = {part: int(1.3 * size) for part, size in FORMULAS.predict(question).parts.items()}
        except Problem:
            parts = {Part.ACTIVATIONS: question.step.rows * 10**9}
        allocated = sum(parts.values())
        return Answer(allocated, int(1.02 * allocated), {}, parts)


def test_what_is_chosen_in_the_end_was_simulated() -> None:
    simulator, card = Simulated(), named("RTX 4090")
    waiting = Waiting(simulator)
    by_formulas = estimate.fit(PROFILE, FACTS, card, ClosedForm(), climb=False)
    assert settle(lambda: (estimate.fit(PROFILE, FACTS, card, waiting, climb=False),), simulator) is None
    found = estimate.fit(PROFILE, FACTS, card, waiting)
    assert found.source == "simulated"
    assert found.fits
    assert found.checkpoint_activations and not by_formulas.checkpoint_activations  # a third more did not fit
    assert 1 < len(simulator.asked) <= 4  # not one for each way there is
    assert {rung.fits for rung in found.ladder} <= {True}
    again = len(simulator.asked)
    settle(lambda: (estimate.fit(PROFILE, FACTS, card, waiting, climb=False),), simulator)
    assert len(simulator.asked) == again  # known now


def test_what_cannot_be_simulated_is_a_reason_and_formulas_stay() -> None:
    simulator = Simulated(fails=Problem("Memory cannot be simulated here", "torch is not installed.", code="torch"))
    waiting = Waiting(simulator)
    problem = settle(lambda: (estimate.fit(PROFILE, FACTS, named("T4"), waiting, climb=False),), simulator)
    assert problem is simulator.fails
    assert estimate.fit(PROFILE, FACTS, named("T4"), waiting).source == "estimated"


def test_where_formulas_know_nothing_it_waits_for_simulations() -> None:
    simulator, card = Simulated(), replace(named("RTX 4090"), free_mib=6000.0)
    found = estimate.fit(PROFILE, UNKNOWN, card, Waiting(simulator))
    assert found.fits
    assert found.source == "simulated"
    assert found.micro_batch == 4  # a gigabyte a row, 6,000 MiB with headroom and context, divisors of 16
    assert found.seconds is None


def test_where_nobody_knows_it_is_said_once() -> None:
    simulator = Simulated(fails=Problem("It was ended", "It took too long.", code="simulation"))
    waiting = Waiting(simulator)
    for _ in range(3):
        with pytest.raises(Problem, match="cannot be estimated") as caught:
            estimate.fit(PROFILE, UNKNOWN, named("T4"), waiting)
    assert "It was ended. It took too long." in caught.value.why
    assert caught.value.code == "shape"
    assert len(simulator.asked) == 1


def test_what_is_wrong_with_the_model_is_what_is_to_be_put_right() -> None:
    untrusted = Problem("It cannot be simulated", "It comes with code.", "Trust it, or not.", code="model")
    with pytest.raises(Problem) as caught:
        estimate.fit(PROFILE, UNKNOWN, named("T4"), Waiting(Simulated(fails=untrusted)))
    assert (caught.value.do, caught.value.code) == ("Trust it, or not.", "shape")
