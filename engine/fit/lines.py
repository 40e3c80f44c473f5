"""What a simulator and its child say to each other: a line of JSON each, numbered by the question that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from engine.errors import Problem
from engine.fit.question import Answer, Question

READY: Final = 0  # the number of the child's first line: it has imported what it needs
ADVICE: Final = "The estimate stands in its place."  # when there is no answer


@dataclass(frozen=True)
class Asked:
    """To the child: a question, which ends the one before; without one, nothing is wanted any more."""

    number: int
    question: Question | None


@dataclass(frozen=True)
class Trouble:
    """A `Problem` on its way."""

    what: str
    why: str
    do: str
    code: str


@dataclass(frozen=True)
class Told:
    """From the child: an answer, or why there is none; neither with `READY`."""

    number: int
    answer: Answer | None = None
    trouble: Trouble | None = None

    @property
    def outcome(self) -> Answer | Problem:
        """What those who asked are given."""
        if self.answer is not None:
            return self.answer
        trouble = self.trouble or Trouble("The simulation said nothing", "", "", "simulation")
        return Problem(trouble.what, trouble.why, trouble.do, code=trouble.code)


ASKED: Final = TypeAdapter(Asked)
TOLD: Final = TypeAdapter(Told)


def refused(number: int, problem: Problem) -> Told:
    """A question's problem as a line."""
    return Told(number, trouble=Trouble(problem.what, problem.why, problem.do, problem.code))
