"""The child at work: it is put to the newest wish, heard, given up when it takes too long, and ended when it rests too long."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from engine.errors import Problem
from engine.fit.lines import ADVICE
from engine.fit.question import Answer, Question
from engine.fit.warm import Warm

Then = Callable[[Question, Answer | Problem], None]

LIMIT: Final = 300.0  # seconds for a question, or for the imports before the first
IDLE: Final = 900.0  # seconds without a question after which the child's memory is worth more than its warmth


@dataclass(frozen=True, eq=False)
class Wish:
    """A question somebody asked, and what to do with its answer."""

    question: Question
    then: Then
    key: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.question.key)


class AtWork:
    """What the simulator's thread has at hand: the child, once there is one, and the wish that it is at."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._child: Warm | None = None
        self._wish: Wish | None = None
        self._deadline = 0.0

    def round(self, wishes: Sequence[Wish], wake: int, *, start: bool) -> tuple[Wish, Answer | Problem] | None:
        """Put the child to the newest wish and wait until it says something, `wake` does, or time is up.

        Raises:
            Problem: the child cannot be started, or is gone.
        """
        self._put_to(wishes, start=start)
        child = self._child
        patience = None if child is None else max(0.0, self._deadline - time.monotonic())
        heard = [child.fileno()] if child else []
        ready, _, _ = select.select([wake, *heard], [], [], patience)
        if wake in ready:
            os.read(wake, 4096)
        if child and child.fileno() in ready:
            return self._hear(child)
        if child and time.monotonic() >= self._deadline:
            return self._out_of_time(child)
        return None

    def end(self) -> None:
        """Kill the child."""
        if self._child:
            self._child.end()
        self._child = self._wish = None

    def _put_to(self, wishes: Sequence[Wish], *, start: bool) -> None:
        if self._child is None and (wishes or start):
            self._child = Warm(self._command)
            self._deadline = time.monotonic() + LIMIT
        child = self._child
        if child is None or not child.ready:
            return
        if self._wish and self._wish.key not in {wish.key for wish in wishes}:
            child.leave()
            self._rest()
        if self._wish is None and wishes:
            self._wish = wishes[-1]
            child.ask(self._wish.question)
            self._deadline = time.monotonic() + LIMIT

    def _hear(self, child: Warm) -> tuple[Wish, Answer | Problem] | None:
        was_ready = child.ready
        told = child.heard()
        if told and self._wish:
            wish = self._wish
            self._rest()
            return wish, told.outcome
        if not was_ready:
            self._rest()
        return None

    def _rest(self) -> None:
        self._wish = None
        self._deadline = time.monotonic() + IDLE

    def _out_of_time(self, child: Warm) -> tuple[Wish, Answer | Problem] | None:
        wish, ready = self._wish, child.ready
        self.end()
        if not ready:
            raise too_long(LIMIT)
        return (wish, too_long(LIMIT)) if wish else None


def too_long(seconds: float) -> Problem:
    """Why an answer is not waited for."""
    return Problem("The simulation was ended", f"It took more than {seconds:.0f} s.", ADVICE, code="simulation")
