"""Rows that say the same: exactly, but for case and blanks, or with another answer to the same question."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from engine.data.examples import Example
from engine.data.question import normalised


@dataclass(frozen=True)
class DuplicateRows:
    """Row numbers from 1. `exact` and `normalised` repeat an earlier row; `conflicting` are all rows of a question with several answers."""

    exact: tuple[int, ...]
    normalised: tuple[int, ...]
    conflicting: tuple[int, ...]


class DuplicateFinder:
    """Takes rows one at a time and keeps 16 bytes of each."""

    def __init__(self) -> None:
        self._exact: set[bytes] = set()
        self._normalised: set[bytes] = set()
        self._answers: dict[bytes, bytes] = {}
        self._disagreeing: set[bytes] = set()
        self._asked: list[tuple[bytes, int]] = []
        self._repeats: list[int] = []
        self._near: list[int] = []

    def add(self, example: Example, row: int) -> None:
        """One more example, the row counted from 1."""
        turns = (*example.messages, *example.rejected)
        whole = _digest(
            "\0".join((*(f"{turn.role}\0{turn.content}\0{turn.calls}" for turn in turns), example.text or ""))
        )
        if (
            example.text is not None or example.rejected
        ):  # a document asks nothing, and a question may well be judged twice
            question, answer = _digest(normalised("\0".join(example.texts))), b""
        else:
            question = _digest(normalised("\0".join(turn.content for turn in example.messages[:-1])))
            answer = _digest(normalised(f"{example.response}\0{[turn.calls for turn in example.messages[-1:]]}"))
        self._asked.append((question, row))
        if self._answers.setdefault(question, answer) != answer:
            self._disagreeing.add(question)
        if whole in self._exact:
            self._repeats.append(row)
        elif question + answer in self._normalised:
            self._near.append(row)
        self._exact.add(whole)
        self._normalised.add(question + answer)

    def found(self) -> DuplicateRows:
        """What was found until now."""
        return DuplicateRows(tuple(self._repeats), tuple(self._near), tuple(self._conflicting()))

    def _conflicting(self) -> Iterator[int]:
        return (row for question, row in self._asked if question in self._disagreeing)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", errors="replace"), digest_size=16).digest()
