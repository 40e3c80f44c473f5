"""The caching allocator: the segments that PyTorch's documentation and source promise, and what must hold for any stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fit.allocator import MIB, Allocator, MainMemory, replay
from engine.fit.question import Part, Phase
from engine.fit.stream import GIVEN_BACK, Event

SIZES = st.one_of(st.integers(1, 4096), st.integers(1, 3 * MIB), st.integers(1, 64 * MIB))
ORDERS = st.lists(st.tuples(SIZES, st.integers(0, 9)), max_size=60)
"""What is asked for, and which of those in use is freed before."""


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),
        (MIB + 1, MIB + 512, 20 * MIB),
        (9 * MIB, 9 * MIB, 20 * MIB),
        (10 * MIB, 10 * MIB, 10 * MIB),
        (11 * MIB, 12 * MIB, 12 * MIB),  # the last MiB is not worth a block of its own
        (33 * MIB + 5, 34 * MIB, 34 * MIB),
    ],
)
def test_a_request_takes_what_its_segment_gives(size: int, allocated: int, reserved: int) -> None:
    allocator = Allocator()
    assert allocator.malloc(0, size) == allocated
    assert (allocator.allocated, allocator.reserved) == (allocated, reserved)


def test_small_requests_share_a_segment_and_large_ones_have_their_own() -> None:
    allocator = Allocator()
    for block in range(4):
        allocator.malloc(block, 512 * 1024)
    assert allocator.reserved == 2 * MIB
    allocator.malloc(4, 512)
    assert allocator.reserved == 4 * MIB
    for block in (5, 6):
        allocator.malloc(block, 16 * MIB)
    assert allocator.reserved == 36 * MIB


def test_the_smallest_gap_that_is_large_enough_is_filled() -> None:
    allocator = Allocator()
    for block, size in enumerate((64, 16, 32)):
        allocator.malloc(block, size * MIB)
    for block in range(3):
        allocator.free(block)
    allocator.malloc(3, 14 * MIB)
    allocator.malloc(4, 30 * MIB)
    allocator.malloc(5, 64 * MIB)
    assert allocator.reserved == 112 * MIB


def test_neighbours_are_one_again_when_both_are_free() -> None:
    allocator = Allocator()
    allocator.malloc(0, 60 * MIB)
    allocator.free(0)
    for block in range(1, 4):
        allocator.malloc(block, 20 * MIB)
    for block in (1, 3, 2):
        allocator.free(block)
    allocator.malloc(4, 60 * MIB)
    assert allocator.reserved == 60 * MIB


def test_of_gaps_of_one_size_the_one_in_the_newest_segment_is_filled() -> None:
    """Its address is the lowest, as Linux gives them out. What stays is a gap in a segment in use, which cannot be given back."""
    allocator = Allocator()
    allocator.malloc(0, 40 * MIB)
    allocator.free(0)
    for block, size in enumerate((10, 30, 30)):  # the third is a segment of its own
        allocator.malloc(block, size * MIB)
    allocator.free(1)
    allocator.free(2)
    allocator.malloc(3, 30 * MIB)
    allocator.empty_cache()
    assert allocator.reserved == 70 * MIB


def test_nine_mib_reserve_more_than_eleven() -> None:
    nine, eleven = Allocator(), Allocator()
    nine.malloc(0, 9 * MIB)
    eleven.malloc(0, 11 * MIB)
    assert nine.reserved > eleven.reserved


def test_a_growing_segment_leaves_no_gap_too_small_for_the_next() -> None:
    """Ever larger tensors: each has a segment of its own, or the end of the one that grows."""
    fixed, growing = Allocator(), Allocator(expandable=True)
    for allocator in (fixed, growing):
        for block, size in enumerate(range(20, 120, 20)):
            allocator.malloc(block, size * MIB)
            allocator.free(block)
    assert fixed.reserved == 300 * MIB
    assert growing.reserved == 100 * MIB


@pytest.mark.parametrize("expandable", [False, True])
@given(orders=ORDERS)
def test_nothing_is_lost_or_given_twice(expandable: bool, orders: list[tuple[int, int]]) -> None:
    allocator = Allocator(expandable=expandable)
    used: dict[int, int] = {}
    for block, (size, which) in enumerate(orders):
        if which < len(used):
            gone = sorted(used)[which]
            assert allocator.free(gone) == used.pop(gone)
        used[block] = allocator.malloc(block, size)
        assert size <= used[block] < size + MIB + 512
        assert allocator.allocated == sum(used.values()) <= allocator.reserved
    reserved = allocator.reserved
    for block in used:
        allocator.free(block)
    assert allocator.allocated == 0
    for block, (size, _) in enumerate(orders):  # what is cached serves the same again, one by one
        allocator.malloc(block, size)
        allocator.free(block)
    assert allocator.reserved == reserved


def test_replay_tells_the_peak_of_each_phase_and_of_what_the_highest_is_made() -> None:
    weights, activations, gradient = 40 * MIB, 20 * MIB, 10 * MIB
    stream = (
        Event(0, weights, Part.WEIGHTS, Phase.LOAD),
        Event(1, activations, Part.ACTIVATIONS, Phase.FORWARD),
        Event(2, gradient, Part.GRADIENTS, Phase.BACKWARD),
        Event(1, 0, Part.ACTIVATIONS, Phase.BACKWARD),
        Event(3, gradient, Part.TEMPORARIES, Phase.STEP),
        Event(0, 0, Part.WEIGHTS, Phase.SAVING),
        Event(GIVEN_BACK, GIVEN_BACK, Part.TEMPORARIES, Phase.SAVING),
    )
    replayed = replay(stream)
    assert (replayed.allocated, replayed.reserved) == (70 * MIB, 70 * MIB)
    assert replayed.phases[Phase.LOAD] == (40 * MIB, 40 * MIB)
    assert replayed.phases[Phase.FORWARD] == (60 * MIB, 60 * MIB)
    assert replayed.phases[Phase.STEP] == (60 * MIB, 70 * MIB)
    assert replayed.phases[Phase.SAVING] == (60 * MIB, 70 * MIB), "what was there when it began"
    assert replayed.parts == {Part.WEIGHTS: weights, Part.ACTIVATIONS: activations, Part.GRADIENTS: gradient}
    on_cpu = replay(stream, MainMemory())
    assert on_cpu.allocated == on_cpu.reserved == 70 * MIB
    assert on_cpu.phases[Phase.STEP] == (60 * MIB, 60 * MIB), "nothing is kept"
    assert on_cpu.parts == replayed.parts
