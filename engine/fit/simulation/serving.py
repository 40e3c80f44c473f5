"""A warm process that answers one question after the other, each in a fork of itself.

What takes seconds, importing torch and the models, is done once. A fork begins with it, can be ended in the middle when its answer is
no longer wanted, gives all its memory back, and takes nobody with it when it crashes. A new question ends the one before; the end of
stdin ends the process. Lines of `engine.fit.lines` go through stdin and what was stdout; whatever else is printed goes to stderr.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from engine.errors import Problem
from engine.fit.lines import ADVICE, ASKED, READY, TOLD, Told, refused
from engine.fit.question import Answer, Question
from engine.process import PARENT, end_with_parent

Answering = Callable[[Question], Answer]

NICENESS: Final = 10
STDIN: Final = 0
BLOCK: Final = 1 << 16


@dataclass(frozen=True)
class Fork:
    """A question being answered: the process that does it, and where its line will come from."""

    number: int
    process: int
    pipe: int


def serve(prepare: Callable[[], Answering]) -> None:
    """Answer until stdin ends; `prepare` imports what is needed and says how questions are answered."""
    end_with_parent()
    os.environ[PARENT] = str(os.getpid())  # of the forks
    os.nice(NICENESS)
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answering = prepare()
    gc.collect()
    gc.freeze()  # what was imported is looked through no more, in no fork
    _say(out, Told(READY))
    fork: Fork | None = None
    unread = b""
    while True:
        ready, _, _ = select.select([STDIN, *([fork.pipe] if fork else [])], [], [])
        if fork and fork.pipe in ready:
            _say(out, _told(fork))
            fork = None
        if STDIN not in ready:
            continue
        block = os.read(STDIN, BLOCK)
        if not block:
            break
        *lines, unread = (unread + block).split(b"\n")
        if lines:
            if fork:
                _end(fork)
            asked = ASKED.validate_json(lines[-1])
            fork = _begin(asked.number, asked.question, answering) if asked.question else None
    if fork:
        _end(fork)


def _begin(number: int, question: Question, answering: Answering) -> Fork:
    pipe, end = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(pipe)
        _answer(end, number, question, answering)
    os.close(end)
    return Fork(number, process, pipe)


def _answer(out: int, number: int, question: Question, answering: Answering) -> NoReturn:
    """What a fork does. It leaves without the clean-up that its parent will do."""
    status = 1
    try:
        end_with_parent()
        try:
            told = Told(number, answering(question))
        except Problem as problem:
            told = refused(number, problem)
        except Exception as error:  # noqa: BLE001 - a bug in here is shown as the reason, its place goes to the log
            traceback.print_exc()
            why = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])[:300]
            told = refused(number, Problem("The simulation failed", why, ADVICE, code="simulation"))
        _say(out, told)
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def _told(fork: Fork) -> Told:
    """What a fork said in the end, or how it died."""
    with open(fork.pipe, "rb") as pipe:  # noqa: PTH123 - a descriptor
        line = pipe.read()
    _, status = os.waitpid(fork.process, 0)
    if os.waitstatus_to_exitcode(status) == 0:
        return TOLD.validate_json(line)
    code = os.waitstatus_to_exitcode(status)
    why = f"It was ended by {signal.Signals(-code).name}." if code < 0 else f"It ended with status {code}."
    return refused(fork.number, Problem("The simulation broke off", why, ADVICE, code="simulation"))


def _end(fork: Fork) -> None:
    os.kill(fork.process, signal.SIGKILL)
    os.waitpid(fork.process, 0)
    os.close(fork.pipe)


def _say(out: int, told: Told) -> None:
    line = TOLD.dump_json(told) + b"\n"
    while line:
        line = line[os.write(out, line) :]
