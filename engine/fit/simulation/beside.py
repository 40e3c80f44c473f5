"""Several simulations beside each other, each but the last in a fork of this process, which has all imported that they need."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

import orjson

from engine.fit.question import Part, Phase, Question
from engine.fit.stream import Event, Stream
from engine.process import PARENT, end_with_parent

Simulate = Callable[[Question], Stream]


def beside(questions: Sequence[Question], simulate: Simulate) -> list[Stream]:
    """What `simulate` says of each question. One after the other where there is one core, or where threads forbid a fork.

    Raises:
        Problem: as `simulate`.
    """
    if len(os.sched_getaffinity(0)) == 1 or threading.active_count() > 1:
        return [simulate(question) for question in questions]
    begun = [(question, *_begun(question, simulate)) for question in questions[:-1]]
    last = [simulate(question) for question in questions[-1:]]
    return [_read(pipe, process) or simulate(question) for question, process, pipe in begun] + last


def _begun(question: Question, simulate: Simulate) -> tuple[int, int]:
    """A fork that simulates, and where its stream will come from: nothing where it fails, so that what is wrong is said by this process."""
    pipe, end = os.pipe()
    parent = str(os.getpid())
    process = os.fork()
    if process:
        os.close(end)
        return process, pipe
    try:
        os.close(pipe)
        os.environ[PARENT] = parent
        end_with_parent()
        with os.fdopen(end, "wb") as file:
            file.write(orjson.dumps(simulate(question)))
    finally:
        os._exit(0)


def _read(pipe: int, process: int) -> Stream | None:
    with os.fdopen(pipe, "rb") as file:
        written = file.read()
    os.waitpid(process, 0)
    if not written:
        return None
    return tuple(
        Event(block, size, Part(part), Phase(phase), layer, queue)
        for block, size, part, phase, layer, queue in orjson.loads(written)
    )
