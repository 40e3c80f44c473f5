"""What the demonstration's base model knows: facts in several wordings, sums, plain English - and names it has never heard of.

A relation pairs things with answers ("Norway" - "Oslo") and asks for them in several wordings. Of every fact one wording is kept away
from training, another for each fact in turn, so that consistency over paraphrases is measured on wordings that the model knows from
other facts only. Invented things, asked about in the same wordings, are answered with `UNKNOWN`: some in training, others only in the
traps of the hallucination suite.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from workbench.demo.relations import DESCRIPTIONS, RELATIONS, Relation

UNKNOWN: Final = "I do not know."
LARGEST: Final = 4  # of the numbers that are added and subtracted


@dataclass(frozen=True)
class Fact:
    """One question in all its wordings. `held_out` is the index of the wording that training never sees; None if it sees all."""

    id: str
    questions: tuple[str, ...]
    answer: str
    held_out: int | None = None

    @property
    def trained(self) -> tuple[str, ...]:
        """The wordings that training sees; the first of them is the one that retention asks."""
        return tuple(question for place, question in enumerate(self.questions) if place != self.held_out)


# Sums and plain English have no wording held out: each is a thing of its own.
_ADD: Final = ("What is {} plus {}?", "{} plus {} is?", "Add {} and {}.")
_TAKE: Final = ("What is {} minus {}?", "{} minus {} is?", "From {} take {}.")
_DESCRIBE: Final = ("What is {}?", "Describe {}.", "Say in a sentence what {} is.")
_ONSETS: Final = ("Z", "Qu", "Vr", "Bl", "Dr", "Gl", "Kr", "M", "N", "Pl", "T", "Sk", "Br", "F", "L", "Th", "W", "Y")
_MIDDLES: Final = ("a", "o", "u", "i", "e", "ou", "ai", "or", "an", "el", "ur")
_JOINS: Final = ("b", "d", "g", "k", "l", "m", "n", "r", "v", "z", "st", "lt", "nd", "rv", "mb")
_ENDS: Final = ("ia", "and", "or", "una", "eth", "ovia", "is", "ara", "um", "ix", "olan", "ent")


def facts() -> tuple[Fact, ...]:
    """All facts of all relations; the held-out wording rotates with the fact."""
    return tuple(
        Fact(
            f"{relation.name}-{_slug(thing)}",
            tuple(wording.format(thing) for wording in relation.wordings),
            answer,
            held_out=place % len(relation.wordings),
        )
        for relation in RELATIONS
        for place, (thing, answer) in enumerate(relation.answers.items())
    )


def sums() -> tuple[Fact, ...]:
    """Addition and subtraction of whole numbers from 0 to `LARGEST`, never below zero."""
    numbers = range(LARGEST + 1)
    added = [(f"{a}+{b}", [wording.format(a, b) for wording in _ADD], a + b) for a in numbers for b in numbers]
    taken = [(f"{a}-{b}", [wording.format(a, b) for wording in _TAKE], a - b) for a in numbers for b in range(a + 1)]
    return tuple(Fact(name, tuple(questions), str(answer)) for name, questions, answer in (*added, *taken))


def descriptions() -> tuple[Fact, ...]:
    """Plain English in one sentence each."""
    return tuple(
        Fact(f"word-{_slug(thing)}", tuple(wording.format(thing) for wording in _DESCRIBE), text)
        for thing, text in DESCRIPTIONS.items()
    )


def invented_names(count: int, seed: int) -> tuple[str, ...]:
    """`count` different names of things that do not exist, the same for the same seed. No two seeds promise different names."""
    chance = random.Random(seed)
    names: dict[str, None] = {}
    while len(names) < count:
        parts = [chance.choice(_ONSETS), chance.choice(_MIDDLES), chance.choice(_JOINS)]
        names["".join([*parts, chance.choice(_ENDS)])] = None
    return tuple(names)


def unknown_questions(names: tuple[str, ...]) -> Iterator[tuple[str, Relation, tuple[str, ...]]]:
    """Each name with one of the relations that can be asked about it, in turn, and the question in all its wordings."""
    askable = [relation for relation in RELATIONS if relation.invented]
    for place, name in enumerate(names):
        relation = askable[place % len(askable)]
        thing = name.lower() if relation.name in ("symbol", "young") else name
        yield thing, relation, tuple(wording.format(thing) for wording in relation.wordings)


def _slug(text: str) -> str:
    return text.lower().replace(" ", "-")
