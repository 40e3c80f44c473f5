"""What of a run is left to be chosen: the largest micro-batch and the longest rows that fit a card, and the fastest way that does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from engine.fit import asking
from engine.fit.facts import Facts
from engine.fit.question import Machine, Question
from engine.profile import Profile

MOST_ROWS: Final = 64  # a larger micro-batch gains nothing on one GPU
MOST_ROWS_CPU: Final = 8  # nor on a CPU
WORTH: Final = 0.98  # of the time: less gain is not worth more memory
GRAIN: Final = 16  # tokens: the longest row is told in steps of so many

Fits = Callable[[Question], bool]
Seconds = Callable[[Question], float | None]


def divisors(batch: int, most: int = MOST_ROWS) -> list[int]:
    """The micro-batches that make up an effective batch, largest first."""
    return [rows for rows in range(min(batch, most), 0, -1) if batch % rows == 0]


def sizes(profile: Profile, machine: Machine) -> list[int]:
    """The micro-batches that auto may choose, largest first: divisors of the effective batch that a rank's share of it can fill."""
    most = MOST_ROWS_CPU if machine.capability is None else MOST_ROWS
    return divisors(profile.training.effective_batch, min(most, asking.share(profile, machine.ranks)))


def ways(profile: Profile) -> list[bool]:
    """Whether activations are recomputed: as the profile says, or either, keeping them first."""
    chosen = profile.training.checkpoint_activations
    if chosen != "auto":
        return [chosen]
    return [False, True] if profile.method.bears_recomputation else [False]


def choose(profile: Profile, facts: Facts, machine: Machine, fits: Fits, seconds: Seconds) -> tuple[int, bool]:
    """Micro-batch and recomputation: the profile's own, or for auto the fastest that fits; if nothing fits, what needs least.

    Of two that are about as fast, the one that needs less memory. Where speed is not known, the first that fits: activations kept, and as
    many rows as there is room for.
    """
    rows = profile.training.micro_batch
    candidates = sizes(profile, machine) if rows == "auto" else [rows]

    def asked(checkpointing: bool, size: int) -> Question:
        return asking.question(profile, facts, rows=size, checkpointing=checkpointing, machine=machine)

    fitting: list[tuple[int, bool]] = []
    for checkpointing in ways(profile):
        most = largest(candidates[::-1], lambda size, way=checkpointing: fits(asked(way, size)))  # type: ignore[misc]
        fitting += [(size, checkpointing) for size in candidates if size <= most]
    if not fitting:
        return candidates[-1], ways(profile)[-1]
    timed = [(seconds(asked(checkpointing, size)), size, checkpointing) for size, checkpointing in fitting]
    known = [(time, size, checkpointing) for time, size, checkpointing in timed if time is not None]
    if not known:
        return fitting[0]
    best = min(known)[0]
    _, size, checkpointing = min(((time * WORTH > best, size, way) for time, size, way in known))
    return size, checkpointing


def largest(ascending: Sequence[int], fits: Callable[[int], bool]) -> int:
    """The largest of these sizes that fits, by halving; 0 where not even the first does. What fits must fit smaller."""
    low, high = 0, len(ascending)
    while low < high:
        middle = (low + high) // 2
        if fits(ascending[middle]):
            low = middle + 1
        else:
            high = middle
    return ascending[low - 1] if low else 0


def longest(question: Question, fits: Fits, limit: int) -> int:
    """Tokens of the longest rows that fit one at a time, up to `limit`; 0 where none do. As many of them are supervised as of the question's."""
    step = question.step
    share = step.supervised / (step.rows * step.tokens)
    pair = 2 if question.training["objective"] in ("dpo", "orpo") else 1

    def asked(tokens: int) -> Question:
        supervised = max(1, round(share * pair * tokens))
        return replace(question, step=replace(step, rows=pair, tokens=tokens, supervised=supervised))

    found = largest(range(GRAIN, limit + 1, GRAIN), lambda tokens: fits(asked(tokens)))
    return min(limit, found)
