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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from engine.fit.question import Part, Phase
from engine.fit.stream import GIVEN_BACK, Event, Stream


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


@dataclass(frozen=True)
class Passage:
    """The longer stream says what it says in `at` to `at + length` once more than the short one, which goes on at `short` after it."""

    short: int
    at: int
    length: int


@dataclass(frozen=True)
class Indexed:
    """A stream with what each event says, and which block it is about: the n-th that the stream allocates."""

    events: Stream
    said: Sequence[Said]
    blocks: Sequence[int]


AHEAD: Final = 12  # events that have to agree behind a passage
TRIES: Final = 2000  # places where streams may part before they are called irregular


def extended(short: Stream, longer: Stream, periods: int) -> Stream:
    """The stream with `periods` periods of layers more than `short`, where `longer` has one more. Blocks are numbered from 0.

    Raises:
        IrregularError: it cannot be told from these two.
    """
    few, more = indexed(short), indexed(longer)
    events: list[Event] = []
    live: dict[int, Event] = {}
    allocated = 0
    for event, freed in _made(few, more, passages(few.said, more.said), periods):
        events.append(event)
        if event.size > 0:
            if event.block != allocated:
                raise IrregularError(f"block {allocated} is allocated as {event.block}")
            live[event.block] = event
            allocated += 1
        elif event.size == 0:
            block = live.pop(event.block, None)
            if block is None or (block.size, block.part) != (freed, event.part):
                raise IrregularError(f"block {event.block} is freed, which is another or not there")
    return tuple(events)


def indexed(stream: Stream) -> Indexed:
    """Numbers the blocks."""
    places: dict[int, int] = {}
    sizes: dict[int, int] = {}
    said, blocks = [], []
    for event in stream:
        block, size, part, phase, layer, queue = event
        if size > 0:
            places[block] = len(places)
            sizes[block] = size
        said.append(Said(size == 0, size or sizes[block], part, phase, layer is not None, queue))
        blocks.append(block if size == GIVEN_BACK else places[block])
    return Indexed(stream, said, blocks)


def passages(few: Sequence[Said], more: Sequence[Said]) -> tuple[Passage, ...]:
    """Where the longer stream repeats itself once more, in order.

    Both are followed as long as they say the same. Where they part the longer one repeats what it just said, or one says another size, and what
    follows decides.

    Raises:
        IrregularError: they differ in another way.
    """
    added = len(more) - len(few)
    open_ways: list[tuple[int, int, tuple[Passage, ...]]] = [(0, 0, ())]
    for _ in range(TRIES):
        if not open_ways:
            break
        i, j, found = open_ways.pop()
        while i < len(few) and j < len(more) and few[i] == more[j]:
            i, j = i + 1, j + 1
        if i == len(few) and j == len(more):
            return found
        if i < len(few) and j < len(more) and _alike(few[i], more[j]):
            open_ways.append((i + 1, j + 1, found))
        for length in range(1, added - (j - i) + 1):  # the longest is tried first
            if _repeats(more, j, length) and _agree(few, i, more, j + length):
                open_ways.append((i, j + length, (*found, Passage(i, j, length))))
    raise IrregularError("the streams differ by more than repetition")


def _repeats(more: Sequence[Said], at: int, length: int) -> bool:
    return (
        at >= length
        and more[at + length - 1] == more[at - 1]  # seldom true, and quickly said
        and more[at : at + length] == more[at - length : at]
    )


def _agree(few: Sequence[Said], i: int, more: Sequence[Said], j: int) -> bool:
    """Whether they go on alike; after the first event they may part again, since another passage may follow."""
    for one, other in zip(few[i : i + AHEAD], more[j : j + AHEAD], strict=False):
        if one != other:
            return one is not few[i] or _alike(one, other)
    return True


def _alike(one: Said, other: Said) -> bool:
    """But for their size."""
    return one._replace(size=other.size) == other


def _made(few: Indexed, more: Indexed, found: Sequence[Passage], periods: int) -> Iterator[tuple[Event, int]]:
    """Every event of the longer stream in its turn, those of passages `periods` times; and the size of the block that it is about."""
    done = apart = 0  # what of the longer stream is done, and how far it is ahead of the short one
    for passage in (*found, Passage(len(few.said), len(more.said), 0)):
        for at in range(done, passage.at):
            yield _moved(few, more, (at - apart, at, at), periods, 0)
        if passage.length and passage.at - passage.length < done:
            raise IrregularError("what a passage repeats is another passage")
        for copy in range(1, periods + 1):
            for at in range(passage.at, passage.at + passage.length):
                before = at - passage.length
                yield _moved(few, more, (before - apart, before, at), periods, copy)
        apart += passage.length
        done = passage.at + passage.length


def _moved(few: Indexed, more: Indexed, places: tuple[int, int, int], periods: int, copy: int) -> tuple[Event, int]:
    """An event as it is in copy `copy` of a passage, from where it stands in the short stream, in the longer one, and repeated there.

    Copy 0 is what the passage repeats.
    """
    short, longer, repeated = places

    def number(in_short: int, in_longer: int, in_repeated: int) -> int:
        return in_short + periods * (in_longer - in_short) + copy * (in_repeated - in_longer)

    block = number(few.blocks[short], more.blocks[longer], more.blocks[repeated])
    size = number(few.said[short].size, more.said[longer].size, more.said[repeated].size)
    layers = (few.events[short].layer, more.events[longer].layer, more.events[repeated].layer)
    layer = None if None in layers else number(*(layer or 0 for layer in layers))
    event, frees = more.events[repeated], more.said[repeated].frees
    return event._replace(block=block, size=0 if frees else size, layer=layer), size
