"""The stream of a model with many layers, from the streams of two with few.

Layers that are alike do the same again and again, so a stream of more layers is one of fewer with passages repeated: a layer more in the
forward pass, in the backward pass, in every list of all parameters that an optimizer makes. Two streams that differ by a period of layers show
where (`passages`). What an event says of another - which block it frees - is the place of that block among all that are allocated, and
moves by the same number of places with every repetition and with every layer that the model has more; two streams tell both numbers. So
does a size that counts layers, such as a list of norms of all gradients made one tensor.

What does not repeat like that is refused, not guessed: a passage has to be what the stream did just before, and every block that is
freed must be there and have the size and the purpose that were freed in the short streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.fit.question import Part, Phase
from engine.fit.stream import GIVEN_BACK, Event, Stream

AHEAD: Final = 12  # events that have to agree behind a passage
TRIES: Final = 300  # places where streams may part before they are called irregular

Numbers = NDArray[np.int64]


class IrregularError(Exception):
    """Streams that do not differ by repetition."""


class Said(NamedTuple):
    """What an event is, whatever blocks and layers are called: for a free, the size of what is freed."""

    frees: bool
    size: int
    part: Part
    phase: Phase
    in_layer: bool
    queue: int


class Passage(NamedTuple):
    """The longer stream says what it says in `at` to `at + length` once more than the short one, which goes on at `short` after it."""

    short: int
    at: int
    length: int


@dataclass(frozen=True)
class Indexed:
    """A stream with what each event says, and the block that it is about: the n-th that the stream allocates."""

    events: Stream
    said: Sequence[Said]
    blocks: Numbers

    @property
    def sizes(self) -> Numbers:
        """Of the blocks that events are about."""
        return np.array([said.size for said in self.said], np.int64)

    @property
    def layers(self) -> Numbers:
        """0 outside of all."""
        return np.array([event.layer or 0 for event in self.events], np.int64)

    @property
    def kinds(self) -> Numbers:
        """1 for what allocates, 0 for what frees, -1 for neither."""
        return np.sign([event.size for event in self.events])

    @property
    def purposes(self) -> Numbers:
        """The parts as numbers."""
        numbers = {part: number for number, part in enumerate(Part)}
        return np.array([numbers[event.part] for event in self.events], np.int64)


def extended(short: Stream, longer: Stream, periods: int) -> Stream:
    """The stream with `periods` periods of layers more than `short`, where `longer` has one more. Blocks are numbered from 0.

    Raises:
        IrregularError: it cannot be told from these two.
    """
    few, more = indexed(short), indexed(longer)
    in_short, in_longer, repeated, copy = _places(passages(few.said, more.said), len(longer), periods)

    def moved(of_few: Numbers, of_more: Numbers) -> Numbers:
        with_each_period, with_each_copy = of_more[in_longer] - of_few[in_short], of_more[repeated] - of_more[in_longer]
        return of_few[in_short] + periods * with_each_period + copy * with_each_copy

    blocks, sizes = moved(few.blocks, more.blocks), moved(few.sizes, more.sizes)
    layers = moved(few.layers, more.layers)
    _check(blocks, sizes, more.kinds[repeated], more.purposes[repeated])
    return tuple(
        Event(block, event.size and size, event.part, event.phase, None if event.layer is None else layer, event.queue)
        for event, block, size, layer in zip(
            map(longer.__getitem__, repeated.tolist()), blocks.tolist(), sizes.tolist(), layers.tolist(), strict=True
        )
    )


def indexed(stream: Stream) -> Indexed:
    """Numbers the blocks."""
    places: dict[int, int] = {}
    sizes: dict[int, int] = {}
    said, blocks = [], []
    for block, size, part, phase, layer, queue in stream:
        if size > 0:
            places[block] = len(places)
            sizes[block] = size
        said.append(Said(size == 0, size or sizes[block], part, phase, layer is not None, queue))
        blocks.append(block if size == GIVEN_BACK else places[block])
    return Indexed(stream, said, np.array(blocks, np.int64))


def passages(few: Sequence[Said], more: Sequence[Said]) -> tuple[Passage, ...]:
    """Where the longer stream repeats itself once more, in order.

    Both are followed as long as they say the same. Where they part the longer one repeats what it just said, or one says another size, and what
    follows decides.

    Raises:
        IrregularError: they differ in another way.
    """
    numbers: dict[Said, int] = {}
    short = [numbers.setdefault(said, len(numbers)) for said in few]  # numbers are compared faster
    longer = [numbers.setdefault(said, len(numbers)) for said in more]
    open_ways: list[tuple[int, int, tuple[Passage, ...]]] = [(0, 0, ())]
    for _ in range(TRIES):
        if not open_ways:
            break
        i, j, found = open_ways.pop()
        same = _same(short, i, longer, j)
        i, j = i + same, j + same
        if i == len(few) and j == len(more):
            return found
        alike = i < len(few) and j < len(more) and _alike(few[i], more[j])
        if alike:
            open_ways.append((i + 1, j + 1, found))
        most = len(more) - len(few) - (j - i)
        for length in _repetitions(longer, j, most):  # the longest is tried first
            then = j + length
            agreed = _same(short[i : i + AHEAD], 0, longer[then : then + AHEAD], 0)
            # After the first event they may part again, since another passage may follow.
            if agreed or i == len(few) or then == len(more) or _alike(few[i], more[then]):
                open_ways.append((i, then, (*found, Passage(i, j, length))))
    raise IrregularError("the streams differ by more than repetition")


def _same(short: Sequence[int], i: int, longer: Sequence[int], j: int) -> int:
    """How many events they say alike from there."""
    end = min(len(short) - i, len(longer) - j)
    for count in range(end):
        if short[i + count] != longer[j + count]:
            return count
    return end


def _repetitions(longer: Sequence[int], at: int, most: int) -> Sequence[int]:
    """The lengths, up to `most`, of what comes at a place and has come just before it; shortest first."""
    return [
        length
        for length in range(1, min(most, at) + 1)
        if longer[at + length - 1] == longer[at - 1]  # seldom, and quickly seen
        and longer[at : at + length] == longer[at - length : at]
    ]


def _alike(one: Said, other: Said) -> bool:
    """But for the size, which may grow with the layers."""
    return one.size < other.size and one._replace(size=other.size) == other


def _places(found: Sequence[Passage], end: int, periods: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """For each event of the result: where it is in the short stream, where in the longer one, where the longer one repeats it, and the how
    manyeth repetition it is; 0 for what is not repeated.

    Raises:
        IrregularError: a passage follows so soon that it would repeat another.
    """
    parts: list[tuple[Numbers, Numbers, Numbers, Numbers]] = []
    done = ahead = 0  # how much of the longer stream is done, and how far it is ahead of the short one
    for passage in (*found, Passage(0, end, 0)):
        if passage.length > passage.at - done:
            raise IrregularError("what a passage repeats is another passage")
        once = np.arange(done, passage.at)
        parts.append((once - ahead, once, once, np.zeros_like(once)))
        again = np.tile(np.arange(passage.at, passage.at + passage.length), periods)
        before = again - passage.length
        parts.append((before - ahead, before, again, np.repeat(np.arange(1, periods + 1), passage.length)))
        done = passage.at + passage.length
        ahead += passage.length
    in_short, in_longer, repeated, copy = (np.concatenate(each) for each in zip(*parts, strict=True))
    return in_short, in_longer, repeated, copy


def _check(blocks: Numbers, sizes: Numbers, kinds: Numbers, purposes: Numbers) -> None:
    """That blocks are allocated in their order, and only what is there is freed, once, with its size and for its purpose.

    Raises:
        IrregularError: they are not.
    """
    taken, freed = np.flatnonzero(kinds == 1), np.flatnonzero(kinds == 0)
    if not np.array_equal(blocks[taken], np.arange(len(taken))):
        raise IrregularError("blocks are allocated in another order")
    if len(np.unique(blocks[freed])) < len(freed) or not np.isin(blocks[freed], blocks[taken]).all():
        raise IrregularError("a block is freed twice, or was never allocated")
    origin = taken[blocks[freed]]
    if not ((origin < freed) & (sizes[origin] == sizes[freed]) & (purposes[origin] == purposes[freed])).all():
        raise IrregularError("a block is freed before it is allocated, or as another")
