"""Answers that were simulated once, kept on disk and found at once: a file for all micro-batches of what is otherwise one question.

The name of a file says what determines its answers: the question without its rows and tokens, the libraries that build and compute,
and the source of our own simulation, so that an answer is never given by other code than would give it now. What is kept can be made
again: a file that cannot be read counts as none, one that cannot be written is done without.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Final

from pydantic import TypeAdapter, ValidationError

from engine import atomic, places
from engine.errors import Problem
from engine.fit.question import Answer, Question, Step

LIBRARIES: Final = ("torch", "transformers", "peft", "bitsandbytes")
SOURCES: Final = (
    "fit/question.py",
    "fit/stream.py",
    "fit/allocator.py",
    "fit/cuts.py",
    "fit/extending.py",
    "fit/simulation/*.py",
    "train/*.py",
)
FILES: Final = 500  # the oldest go
POINTS: Final = 300  # answers in a file; likewise
_POINTS: Final = TypeAdapter(list[tuple[Step, Answer]])
_log = logging.getLogger(__name__)


class Kept:
    """The answers in a folder, read once and then held. May be used by several threads, and the folder by several processes."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or places.cache() / "simulated"
        self._families: dict[str, dict[Step, Answer]] = {}
        self._lock = Lock()

    def answers(self, question: Question) -> Mapping[Step, Answer]:
        """What is known of this and other micro-batches of the same question, in the order in which it was learned."""
        with self._lock:
            return dict(self._family(family(question)))

    def keep(self, question: Question, answer: Answer) -> None:
        """Know an answer from now on."""
        name = family(question)
        with self._lock:
            points = self._family(name)
            points[question.step] = answer
            for oldest in list(points)[:-POINTS]:
                del points[oldest]
            try:
                places.private_folder(self.folder)
                atomic.write_bytes(self._path(name), _POINTS.dump_json(list(points.items())))
                self._forget_oldest()
            except (Problem, OSError) as problem:
                _log.warning("a simulated answer is not kept: %s", problem)

    def _family(self, name: str) -> dict[Step, Answer]:
        if name not in self._families:
            try:
                self._families[name] = dict(_POINTS.validate_json(self._path(name).read_bytes()))
            except (OSError, ValidationError):
                self._families[name] = {}
        return self._families[name]

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _forget_oldest(self) -> None:
        files = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[:-FILES]:
            path.unlink(missing_ok=True)


def family(question: Question) -> str:
    """The same for questions that differ in rows, tokens and supervised tokens only; 32 hexadecimal digits."""
    alike = replace(question, step=replace(question.step, rows=0, tokens=0, supervised=0))
    return hashlib.sha256(f"{alike.key} {made_by()}".encode()).hexdigest()[:32]


@cache
def made_by() -> str:
    """What would simulate now: versions of libraries and the source of the simulation, as 32 hexadecimal digits."""
    digest = hashlib.sha256(" ".join(map(_version, LIBRARIES)).encode())
    engine = Path(__file__).resolve().parents[1]
    for pattern in SOURCES:
        for path in sorted(engine.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _version(library: str) -> str:
    try:
        return f"{library}={version(library)}"
    except PackageNotFoundError:
        return f"{library}=none"
