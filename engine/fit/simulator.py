"""Who wants to know how much memory a step takes asks here: answers that are kept come at once, others from a warm child.

The simulator has a thread of its own, in which the child lives. The newest question goes first; the one that the child is at goes on as
long as somebody wants its answer, and is ended when nobody does. The child starts with the first question (or `warm`), stays, and goes
when it has long had nothing to do.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from engine.errors import Problem
from engine.fit.at_work import LIMIT, AtWork, Then, Wish, too_long
from engine.fit.kept import Kept
from engine.fit.lines import ADVICE
from engine.fit.question import Answer, Question, Step
from engine.fit.warm import COMMAND

_log = logging.getLogger(__name__)


class Simulator:
    """Keeps answers and gets new ones; every method may be called from any thread and only `ask` waits.

    `command` starts the child; tests give it another.
    """

    def __init__(self, kept: Kept | None = None, *, command: Sequence[str] = COMMAND) -> None:
        self._kept = kept or Kept()
        self._command = command
        self._wishes: list[Wish] = []
        self._refused: dict[str, Problem] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._starting = False
        self._closing = False
        self._wake, self._waker = os.pipe()
        os.set_blocking(self._waker, False)

    def known(self, question: Question) -> Answer | None:
        """The answer, where it was simulated before, by this or another process."""
        return self._kept.answers(question).get(question.step)

    def near(self, question: Question) -> Mapping[Step, Answer]:
        """All answers to what differs from the question in rows, tokens and supervised tokens only; the newest last."""
        return self._kept.answers(question)

    def wanted(self, question: Question, then: Then) -> Callable[[], None]:
        """Have `then` called with the answer, or with the problem that there is none, from another thread; the result says "no longer".

        What was wanted last is simulated first.

        Raises:
            Problem: the simulator is closed ("simulation").
        """
        wish = Wish(question, then)
        with self._lock:
            if self._closing:
                raise _closed()
            self._wishes.append(wish)
            self._run()
            self._nudge()
        return lambda: self._unwanted(wish)

    def ask(self, question: Question, timeout: float = LIMIT) -> Answer:
        """The answer, waited for.

        Raises:
            Problem: it cannot be simulated, or not within `timeout` seconds, or the simulator is closed ("simulation"); torch is not
                installed ("torch").
        """
        known = self.known(question)
        if known is not None:
            return known
        came: SimpleQueue[Answer | Problem] = SimpleQueue()
        cancel = self.wanted(question, lambda _, outcome: came.put(outcome))
        try:
            outcome = came.get(timeout=timeout)
        except Empty:
            cancel()
            raise too_long(timeout) from None
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    def warm(self) -> None:
        """Start the child now, so that it is ready when the first question comes; nothing where torch is not installed."""
        with self._lock:
            if self._closing or not installed():
                return
            self._starting = True
            self._run()
            self._nudge()

    def close(self) -> None:
        """End the child. Who still waits is told that no answer comes."""
        with self._lock:
            if self._closing:
                return
            self._nudge()
            self._closing = True
            thread, left = self._thread, list(self._wishes)
        if thread:
            thread.join()
        for wish in left:
            self._tell(wish, _closed())
        os.close(self._wake)
        os.close(self._waker)

    def _unwanted(self, wish: Wish) -> None:
        with self._lock:
            if wish in self._wishes:
                self._wishes.remove(wish)
                self._nudge()

    def _nudge(self) -> None:
        """Wake the thread. With the lock: once closing, another file may have the pipe's number."""
        with suppress(BlockingIOError):  # full: it wakes anyway
            if not self._closing:
                os.write(self._waker, b"!")

    def _run(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="simulator", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        """The thread: one round for each thing that happens, until closed."""
        at_work = AtWork(self._command)
        try:
            while True:
                with self._lock:
                    if self._closing:
                        return
                    wishes, start = list(self._wishes), self._starting
                    self._starting = False
                left = [wish for wish in wishes if not self._settled(wish)]
                try:
                    told = at_work.round(left, self._wake, start=start)
                except Problem as problem:
                    at_work.end()
                    for wish in left:
                        self._tell(wish, problem)
                    continue
                if told:
                    self._learn(*told)
        finally:
            at_work.end()

    def _settled(self, wish: Wish) -> bool:
        """Tell what need not be simulated."""
        outcome = self.known(wish.question) or self._refused.get(wish.key) or (None if installed() else no_torch())
        if outcome is not None:
            self._tell(wish, outcome)
        return outcome is not None

    def _learn(self, wish: Wish, outcome: Answer | Problem) -> None:
        if not isinstance(outcome, Problem):
            self._kept.keep(wish.question, outcome)
        elif outcome.code != "simulation":  # what broke off may go well another time
            self._refused[wish.key] = outcome
        with self._lock:
            alike = [other for other in self._wishes if other.key == wish.key]
        for each in alike:
            self._tell(each, outcome)

    def _tell(self, wish: Wish, outcome: Answer | Problem) -> None:
        with self._lock:
            if wish not in self._wishes:
                return
            self._wishes.remove(wish)
        try:
            wish.then(wish.question, outcome)
        except Exception:  # noqa: BLE001 - a screen that is gone must not end it for others
            _log.exception("what waited for a simulation failed")


def installed() -> bool:
    """Whether there is a torch to simulate with."""
    return importlib.util.find_spec("torch") is not None


def no_torch() -> Problem:
    """Why nothing is simulated on a machine with the base install."""
    return Problem(
        "Memory cannot be simulated here",
        "torch is not installed.",
        'Install it with: pip install "finetune-workbench[engine]"',
        code="torch",
    )


def _closed() -> Problem:
    """Why nothing is answered any more."""
    return Problem("The simulation was ended", "The program is closing.", ADVICE, code="simulation")
