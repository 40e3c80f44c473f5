"""Between known answers: exact where one is known, moved formulas near it, straight lines where formulas know nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest

from engine.errors import Problem
from engine.fit import shapes
from engine.fit.anchored import FORMULAS, Anchored
from engine.fit.question import Answer, Machine, Part, Phase, Question, Step

BASE: Mapping[str, object] = {"quantization": "none", "dtype": "bfloat16", "attention": "sdpa"}
METHOD: Mapping[str, object] = {"name": "lora", "targets": "all-linear", "rank": 16, "dropout": 0.1}


def question(rows: int, tokens: int, config: Mapping[str, object] | None = None) -> Question:
    step = Step(rows, tokens, rows * tokens // 2, False, True, True)
    training = {"objective": "sft", "optimizer": "adamw"}
    found = config or shapes.config_of("Qwen/Qwen3-4B")
    return Question(found, BASE, METHOD, training, step, Machine((8, 9)))


@dataclass(frozen=True)
class Known:
    answers: Mapping[Step, Answer]

    def near(self, asked: Question) -> Mapping[Step, Answer]:
        return self.answers


def simulated(asked: Question) -> Answer:
    """As if a simulation found a tenth more activations than the formulas do, and a gigabyte of temporaries."""
    parts = {part: int(size) for part, size in FORMULAS.predict(asked).parts.items()}
    parts[Part.ACTIVATIONS] = int(parts[Part.ACTIVATIONS] * 1.1)
    parts[Part.TEMPORARIES] += 10**9
    allocated = sum(parts.values())
    return Answer(allocated, int(1.05 * allocated), {Phase.BACKWARD: (allocated, allocated)}, parts)


def test_what_is_known_is_said_and_nothing_else_without_it() -> None:
    asked = question(2, 1024)
    exact = simulated(asked)
    found = Anchored(Known({asked.step: exact})).predict(asked)
    assert (found.source, found.allocated, found.phases) == ("simulated", exact.allocated, exact.phases)
    assert Anchored(Known({})).predict(asked) == FORMULAS.predict(asked)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 512), (3, 1024), (4, 2000), (16, 1024)])
def test_between_and_beyond_two_answers_it_is_within_a_percent(rows: int, tokens: int) -> None:
    known = {asked.step: simulated(asked) for asked in (question(1, 1024), question(8, 1024))}
    asked = question(rows, tokens)
    found, truth = Anchored(Known(known)).predict(asked), simulated(asked)
    assert found.source == "interpolated"
    assert found.allocated == pytest.approx(truth.allocated, rel=0.01)
    assert found.reserved == pytest.approx(truth.reserved, rel=0.01)
    assert sum(found.parts.values()) == pytest.approx(found.allocated)
    off = abs(FORMULAS.predict(asked).allocated - truth.allocated)
    assert abs(found.allocated - truth.allocated) < off / 5


def test_one_answer_moves_the_formula_by_as_much_everywhere() -> None:
    one = question(2, 1024)
    found = Anchored(Known({one.step: simulated(one)})).predict(question(3, 1024))
    lacks = simulated(one).allocated - FORMULAS.predict(one).allocated
    assert found.allocated == pytest.approx(FORMULAS.predict(question(3, 1024)).allocated + lacks, rel=1e-6)


def test_without_formulas_it_is_the_line_through_two_answers() -> None:
    unknown = {"model_type": "mamba"}
    steps = [replace(question(rows, 1000).step) for rows in (1, 3)]
    known = {
        step: Answer(step.rows * 10**9, step.rows * 10**9, {}, {Part.ACTIVATIONS: step.rows * 10**9}) for step in steps
    }
    found = Anchored(Known(known)).predict(question(2, 1000, unknown))
    assert (found.source, found.allocated) == ("interpolated", pytest.approx(2e9))
    with pytest.raises(Problem) as caught:
        Anchored(Known({steps[0]: known[steps[0]]})).predict(question(2, 1000, unknown))
    assert caught.value.code == "shape"
