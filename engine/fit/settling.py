"""Choosing with simulated figures: what formulas and known answers choose is simulated, until what is chosen has been."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from engine.errors import Problem
from engine.fit.anchored import Anchored
from engine.fit.estimate import GpuFit
from engine.fit.predicting import Predicted
from engine.fit.question import Answer, Question, Step

ROUNDS: Final = 6  # each answer may move the choice; two or three are usual
PATIENCE: Final = (
    60.0  # seconds for one answer: a whole 70B model takes a few, the imports before the first ten on a slow disk
)


class Answering(Protocol):
    """Who knows answers and gets new ones: a `Simulator`."""

    def near(self, question: Question) -> Mapping[Step, Answer]:
        """Known answers to what differs from the question in rows, tokens and supervised tokens only."""
        ...

    def ask(self, question: Question, timeout: float = PATIENCE) -> Answer:
        """The answer, waited for.

        Raises:
            Problem: there is none.
        """
        ...


class Waiting:
    """Formulas and known answers, and where those cannot tell, a simulation that is waited for."""

    def __init__(self, simulator: Answering, patience: float = PATIENCE) -> None:
        """`patience` in seconds for an answer."""
        self._simulator = simulator
        self._patience = patience
        self._anchored = Anchored(simulator)
        self._failed: Problem | None = None

    def predict(self, question: Question) -> Predicted:
        """The peaks.

        Raises:
            Problem: nobody can tell ("shape").
        """
        try:
            return self._anchored.predict(question)
        except Problem as problem:
            if problem.code != "shape":
                raise
            self._ask(question, problem)
        return self._anchored.predict(question)

    def _ask(self, question: Question, unknown: Problem) -> None:
        """Have it simulated; after one failure nothing is waited for any more."""
        try:
            if self._failed is None:
                self._simulator.ask(question, self._patience)
                return
        except Problem as problem:
            self._failed = problem
        do = (
            self._failed.do if self._failed.code == "model" else unknown.do
        )  # what is wrong with the model can be put right
        raise Problem(unknown.what, f"{unknown.why} {told(self._failed)}", do, code="shape")


def settle(now: Callable[[], Sequence[GpuFit]], simulator: Answering, patience: float = PATIENCE) -> Problem | None:
    """Have simulated what `now` says, and again what it says then, until all of it is; returns what kept it from that.

    Raises:
        Problem: `now` does.
    """
    for _ in range(ROUNDS):
        missing = {fit.question.key: fit.question for fit in now() if fit.source != "simulated"}
        if not missing:
            break
        try:
            for question in missing.values():
                simulator.ask(question, patience)
        except Problem as problem:
            return problem
    return None


def told(problem: Problem) -> str:
    """Why there is no simulation, in a sentence or two."""
    return " ".join(part if part.endswith(".") else f"{part}." for part in (problem.what, problem.why) if part)
