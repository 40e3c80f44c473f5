"""A simulator's child for screens: without torch, it answers with what formulas say, half as much again; `hold` keeps it from answering.

python simulating.py HOLD [refuse]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from engine.errors import Problem
from engine.fit.predicting import ClosedForm
from engine.fit.question import Answer, Part, Phase, Question
from engine.fit.simulation.serving import Answering, serve


def answer(question: Question) -> Answer:
    """Once the file HOLD is gone."""
    while Path(sys.argv[1]).exists():
        time.sleep(0.01)
    if "refuse" in sys.argv:
        raise Problem("It has no layers", "num_hidden_layers is missing.", "Save it again.", code="model")
    try:
        parts = {part: int(1.5 * size) for part, size in ClosedForm().predict(question).parts.items()}
    except Problem:
        parts = {Part.WEIGHTS: 1 << 30, Part.ACTIVATIONS: question.step.rows * question.step.tokens << 12}
    allocated = sum(parts.values())
    phases = {Phase.LOAD: (allocated // 2, allocated // 2), Phase.BACKWARD: (allocated, allocated)}
    return Answer(allocated, allocated, phases, parts)


def prepare() -> Answering:
    """Nothing has to be imported."""
    return answer


serve(prepare)
