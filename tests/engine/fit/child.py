"""A child for simulators that answers without torch, as the question's config says. Writes down what it begins."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from engine.errors import Problem
from engine.fit.question import Answer, Part, Phase, Question
from engine.fit.simulation.serving import Answering, serve


def answer(question: Question) -> Answer:
    """A byte a row, after whatever the config says is done."""
    config, rows = question.config, question.step.rows
    begun = config.get("begun")
    if begun:
        with Path(str(begun)).open("a", encoding="utf-8") as file:
            file.write(f"{rows} {os.getpid()}\n")
    print("libraries print what they like")
    match config.get("do"):
        case "wait":
            while not Path(str(config["until"])).exists():
                time.sleep(0.01)
        case "refuse":
            raise Problem("It has no layers", "num_hidden_layers is missing.", "Save it again.", code="model")
        case "fail":
            raise ValueError("a bug\nof several lines")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        case "forward":
            return Answer(rows, 2 * rows, {Phase.FORWARD: (rows, 2 * rows)}, {Part.WEIGHTS: rows})
    return Answer(rows, 2 * rows, {Phase.LOAD: (1, 2)}, {Part.ACTIVATIONS: rows})


def prepare() -> Answering:
    """Nothing has to be imported; a variable makes the start fail."""
    if "WORKBENCH_TEST_BROKEN" in os.environ:
        raise ImportError("libtorch is not where it was")
    return answer


serve(prepare)
