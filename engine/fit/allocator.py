"""PyTorch's caching allocator for CUDA, as far as it decides how many bytes are allocated and reserved.

After c10/cuda/CUDACachingAllocator.cpp of PyTorch 2: requests are rounded up to 512 bytes; those of up to 1 MiB come from small segments of
2 MiB, those below 10 MiB from segments of 20 MiB, larger ones get a segment of their own, rounded up to 2 MiB. The smallest free block that
is large enough is taken, the lowest of equal ones; what is left of it is split off (of a large one only when it is more than 1 MiB), and on
free neighbours are merged. With `expandable_segments:True` there is one segment for small and one for large requests; each grows by mapping
more of itself, and what is left is always split off. What is freed by one CUDA stream (a `queue` here) is never given to another. What the
driver rounds is in the segments' sizes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from engine.fit.question import Part, Phase
from engine.fit.stream import GIVEN_BACK, Event

MIB: Final = 1 << 20
ROUND: Final = 512  # kMinBlockSize
SMALL: Final = 1 * MIB  # kSmallSize: what comes from small segments at most, and what must remain to be split off
SMALL_SEGMENT: Final = 2 * MIB  # kSmallBuffer
LARGE_SEGMENT: Final = 20 * MIB  # kLargeBuffer
LARGE: Final = 10 * MIB  # kMinLargeAlloc: from here on a request has a segment of its own
ROUND_LARGE: Final = 2 * MIB  # kRoundLarge
ENDLESS: Final = 1 << 50  # address space between segments, so that none is ever taken for another's neighbour


class Kind(NamedTuple):
    """What shares segments: small requests or others, of one CUDA stream."""

    small: bool
    queue: int


class _Block:
    """A part of a segment: in use, or free and in its pool."""

    __slots__ = ("address", "free", "kind", "next", "previous", "size")

    def __init__(self, address: int, size: int, kind: Kind) -> None:
        self.address = address
        self.size = size
        self.kind = kind
        self.free = False
        self.previous: _Block | None = None
        self.next: _Block | None = None


class _Pool:
    """Free blocks of one kind, by size and then address."""

    def __init__(self) -> None:
        self._order: list[tuple[int, int]] = []
        self._blocks: dict[int, _Block] = {}

    def put(self, block: _Block) -> None:
        block.free = True
        insort(self._order, (block.size, block.address))
        self._blocks[block.address] = block

    def take(self, block: _Block) -> None:
        block.free = False
        del self._order[bisect_left(self._order, (block.size, block.address))]
        del self._blocks[block.address]

    def best(self, size: int, growing: _Block | None) -> _Block | None:
        """The smallest that is large enough; the end of a growing segment only when nothing else is."""
        at = bisect_left(self._order, (size,))
        while at < len(self._order):
            block = self._blocks[self._order[at][1]]
            if block is not growing or at + 1 == len(self._order):
                return block
            at += 1
        return None

    def whole(self) -> list[_Block]:
        """Those that are a segment each."""
        return [block for block in self._blocks.values() if block.previous is None and block.next is None]


class MainMemory:
    """A CPU's, in place of an `Allocator`: it is allocated as it is asked for, and nothing is rounded or kept."""

    def __init__(self) -> None:
        self.allocated = 0
        self._used: dict[int, int] = {}

    @property
    def reserved(self) -> int:
        """No more than is allocated."""
        return self.allocated

    def malloc(self, block: int, size: int, queue: int = 0) -> int:
        """Take `size` bytes."""
        self._used[block] = size
        self.allocated += size
        return size

    def free(self, block: int) -> int:
        """Give a block back; how many bytes it had."""
        size = self._used.pop(block)
        self.allocated -= size
        return size

    def empty_cache(self) -> None:
        """There is none."""


class Allocator:
    """Blocks by number. `expandable`: `expandable_segments:True`, which the engine sets. Its segments give nothing back here."""

    def __init__(self, *, expandable: bool = False) -> None:
        self.allocated = 0
        self.reserved = 0
        self._expandable = expandable
        self._pools: defaultdict[Kind, _Pool] = defaultdict(_Pool)
        self._ends: dict[Kind, _Block] = {}
        self._used: dict[int, _Block] = {}
        self._segments = 0

    def malloc(self, block: int, size: int, queue: int = 0) -> int:
        """Take `size` bytes; how many are taken, which is what PyTorch counts as allocated."""
        size = max(ROUND, -(-size // ROUND) * ROUND)
        kind = Kind(size <= SMALL, queue)
        found = self._pools[kind].best(size, self._ends.get(kind))
        if found:
            self._pools[kind].take(found)
        else:
            found = self._grown(size, kind) if self._expandable else self._segment(size, kind)
        self._split(found, size)
        self._used[block] = found
        self.allocated += found.size
        return found.size

    def free(self, block: int) -> int:
        """Give a block back to its pool; how many bytes it had."""
        freed = self._used.pop(block)
        size = freed.size
        self.allocated -= size
        pool = self._pools[freed.kind]
        before, after = freed.previous, freed.next
        if before and before.free:
            pool.take(before)
            freed = self._joined(before, freed)
        if after and after.free:
            pool.take(after)
            freed = self._joined(freed, after)
        pool.put(freed)
        return size

    def empty_cache(self) -> None:
        """Give back all segments of which nothing is in use; a growing one stays."""
        for pool in self._pools.values() if not self._expandable else ():
            for block in pool.whole():
                pool.take(block)
                self.reserved -= block.size

    def _split(self, block: _Block, size: int) -> None:
        left = block.size - size
        if not (left >= ROUND if block.kind.small or self._expandable else left > SMALL):
            return
        rest = _Block(block.address + size, left, block.kind)
        rest.previous, rest.next = block, block.next
        if rest.next:
            rest.next.previous = rest
        block.next, block.size = rest, size
        if self._ends.get(block.kind) is block:
            self._ends[block.kind] = rest
        self._pools[block.kind].put(rest)

    def _joined(self, left: _Block, right: _Block) -> _Block:
        left.size += right.size
        left.next = right.next
        if left.next:
            left.next.previous = left
        if self._ends.get(right.kind) is right:
            self._ends[right.kind] = left
        return left

    def _segment(self, size: int, kind: Kind) -> _Block:
        wanted = (
            SMALL_SEGMENT if kind.small else LARGE_SEGMENT if size < LARGE else -(-size // ROUND_LARGE) * ROUND_LARGE
        )
        self.reserved += wanted
        return _Block(self._address(), wanted, kind)

    def _grown(self, size: int, kind: Kind) -> _Block:
        """The end of the growing segment, with as much mapped as is missing."""
        unit = SMALL_SEGMENT if kind.small else LARGE_SEGMENT
        end = self._ends.get(kind)
        spare = end.size if end and end.free else 0
        mapped = -(-(size - spare) // unit) * unit
        self.reserved += mapped
        if end and end.free:
            self._pools[kind].take(end)
            end.size += mapped
            return end
        block = _Block(end.address + end.size if end else self._address(), mapped, kind)
        if end:
            end.next, block.previous = block, end
        self._ends[kind] = block
        return block

    def _address(self) -> int:
        """Of a new segment: below all before it, as Linux gives out address space (mmap(2) works its way down)."""
        self._segments -= 1
        return self._segments * ENDLESS


@dataclass(frozen=True)
class Replayed:
    """Peaks in bytes: overall, in each phase (what was there at its beginning counts), and of what the largest allocated one was made."""

    allocated: int
    reserved: int
    phases: Mapping[Phase, tuple[int, int]]
    parts: Mapping[Part, int]


def replay(stream: Iterable[Event], allocator: Allocator | MainMemory | None = None) -> Replayed:
    """What an allocator that is still empty says of a stream; without one, PyTorch's as it is if nobody sets it.

    Raises:
        KeyError: a block is freed that was not allocated.
    """
    allocator = allocator or Allocator()
    phases: dict[Phase, tuple[int, int]] = {}
    parts = dict.fromkeys(Part, 0)
    of: dict[int, Part] = {}
    peak, reserved, at_peak = 0, 0, parts.copy()
    for event in stream:
        highest = phases.get(event.phase, (allocator.allocated, allocator.reserved))
        if event.size == GIVEN_BACK:
            allocator.empty_cache()
        elif event.size:
            parts[event.part] += allocator.malloc(event.block, event.size, event.queue)
            of[event.block] = event.part
            if allocator.allocated > peak:
                peak, at_peak = allocator.allocated, parts.copy()
        else:
            parts[of.pop(event.block)] -= allocator.free(event.block)
        reserved = max(reserved, allocator.reserved)
        phases[event.phase] = (max(highest[0], allocator.allocated), max(highest[1], allocator.reserved))
    return Replayed(peak, reserved, phases, {part: size for part, size in at_peak.items() if size})
