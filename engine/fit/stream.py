"""What a step allocates and frees, in order: made by the simulation, extended to more layers, and replayed through an allocator."""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.fit.question import Part, Phase


class Event(NamedTuple):
    """A block is allocated (`size` bytes as asked for, at least 1) or freed (`size` 0).

    `block` is unique in the stream. `layer` is the decoder layer that the operation belongs to, None outside of all. `queue` is the CUDA stream
    that asks for it, 0 the usual one: what one has freed is not given to another.
    """

    block: int
    size: int
    part: Part
    phase: Phase
    layer: int | None = None
    queue: int = 0


GIVEN_BACK: Final = -1
"""The size of an event that is neither: `torch.cuda.empty_cache()`. Of its block, too."""

Stream = tuple[Event, ...]
