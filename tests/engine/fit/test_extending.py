"""A stream that is extended is the stream of the larger model, event for event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fit.extending import IrregularError, extended
from engine.fit.question import Part, Phase
from engine.fit.stream import GIVEN_BACK, Event, Stream

SIZES = st.sampled_from([512, 1024, 4096])  # few, so that what differs looks alike
TENSORS = st.lists(SIZES, min_size=1, max_size=4)


@dataclass(frozen=True)
class Network:
    """What the layers of a made-up network allocate. `own` says what a period's first layer keeps besides; `start` what the very first does."""

    weights: Sequence[int]
    kept: Sequence[int]
    passing: Sequence[int]
    backward: Sequence[int]
    own: Sequence[int] = ()
    start: Sequence[int] = ()
    period: int = 1
    order: Sequence[int] = ()
    newest_first: bool = True


@dataclass
class Program:
    """Writes a stream down."""

    events: list[Event] = field(default_factory=list)
    made: int = 0

    def take(self, size: int, part: Part, phase: Phase, layer: int | None = None) -> Callable[[Phase], None]:
        block, self.made = self.made, self.made + 1
        self.events.append(Event(block, size, part, phase, layer))

        def free(at: Phase) -> None:
            self.events.append(Event(block, 0, part, at, layer))

        return free


Frees = list[Callable[[Phase], None]]


def free_all(frees: Frees, phase: Phase, order: Sequence[int] = ()) -> None:
    """In the order that is given, as far as it goes."""
    ranked = sorted(range(len(frees)), key=lambda at: order[at] if at < len(order) else at)
    for at in ranked:
        frees[at](phase)


def stream(network: Network, layers: int) -> Stream:
    """Two training steps of a network with so many layers, and what an optimizer does with lists of all its weights."""
    program = Program()
    for layer in range(layers):
        for size in network.weights:
            program.take(size, Part.WEIGHTS, Phase.LOAD, layer)
    program.events.append(Event(GIVEN_BACK, GIVEN_BACK, Part.TEMPORARIES, Phase.LOAD))
    states: Frees = []
    for _ in range(2):
        gradients = step(program, network, layers)
        count = layers * len(network.weights)
        norms = [program.take(4, Part.TEMPORARIES, Phase.STEP) for _ in range(count)]
        stacked = program.take(4 * count, Part.TEMPORARIES, Phase.STEP)
        free_all(norms[::-1] if network.newest_first else norms, Phase.STEP)
        stacked(Phase.STEP)
        if not states:
            every = [(layer, size) for layer in range(layers) for size in network.weights]
            states = [program.take(size, Part.OPTIMIZER, Phase.STEP, layer) for layer, size in every]
        free_all(gradients, Phase.STEP)
    return tuple(program.events)


def step(program: Program, network: Network, layers: int) -> Frees:
    """Forward and backward; the gradients, in the order of the weights."""
    entry = [program.take(size, Part.ACTIVATIONS, Phase.FORWARD) for size in network.start]
    carried = program.take(2048, Part.ACTIVATIONS, Phase.FORWARD)
    kept: list[Frees] = []
    for layer in range(layers):
        own = network.own if layer % network.period == 0 else ()
        sizes = [*network.kept, *own]
        saved = [program.take(size, Part.ACTIVATIONS, Phase.FORWARD, layer) for size in sizes]
        passing = [program.take(size, Part.ACTIVATIONS, Phase.FORWARD, layer) for size in network.passing]
        carried(Phase.FORWARD)
        free_all(passing, Phase.FORWARD, network.order)
        carried = program.take(2048, Part.ACTIVATIONS, Phase.FORWARD, layer)
        kept.append(saved)
    logits = program.take(8192, Part.LOGITS, Phase.FORWARD)
    carried(Phase.FORWARD)
    flowing = program.take(2048, Part.TEMPORARIES, Phase.BACKWARD)
    logits(Phase.BACKWARD)
    gradients: list[Frees] = []
    for layer in reversed(range(layers)):
        passing = [program.take(size, Part.TEMPORARIES, Phase.BACKWARD, layer) for size in network.backward]
        free_all(kept[layer], Phase.BACKWARD, network.order)
        gradients.append([program.take(size, Part.GRADIENTS, Phase.BACKWARD, layer) for size in network.weights])
        flowing(Phase.BACKWARD)
        flowing = program.take(2048, Part.TEMPORARIES, Phase.BACKWARD, layer)
        free_all(passing[::-1], Phase.BACKWARD)
    flowing(Phase.BACKWARD)
    free_all(entry, Phase.BACKWARD)
    return [free for of_layer in reversed(gradients) for free in of_layer]


networks = st.builds(
    Network,
    weights=TENSORS,
    kept=TENSORS,
    passing=TENSORS,
    backward=TENSORS,
    own=st.one_of(st.just([]), TENSORS),
    start=st.one_of(st.just([]), TENSORS),
    period=st.integers(1, 3),
    order=st.permutations(range(4)),
    newest_first=st.booleans(),
)


@given(networks, st.integers(2, 4), st.integers(2, 9))
def test_extended_is_the_stream_of_the_larger_model(network: Network, short: int, periods: int) -> None:
    few = short * network.period
    made = extended(stream(network, few), stream(network, few + network.period), periods)
    assert made == stream(network, few + periods * network.period)


@given(networks, st.integers(2, 6))
def test_from_too_few_layers_it_is_right_or_refused(network: Network, periods: int) -> None:
    few, period = network.period, network.period
    try:
        made = extended(stream(network, few), stream(network, few + period), periods)
    except IrregularError:
        return
    assert made == stream(network, few + periods * period)


def test_one_period_more_is_the_longer_stream_itself() -> None:
    network = Network([512], [1024], [4096], [512])
    longer = stream(network, 4)
    assert extended(stream(network, 3), longer, 1) == longer


def test_streams_that_have_nothing_to_do_with_each_other_are_refused() -> None:
    one, other = Network([512], [1024], [4096], [512]), Network([512], [512], [4096], [1024])
    with pytest.raises(IrregularError):
        extended(stream(one, 3), stream(other, 4), 2)


def test_a_passage_that_grows_is_refused() -> None:
    """Each layer keeps more than the one before it."""

    def growing(layers: int) -> Stream:
        program = Program()
        frees = [program.take(512 * (layer + 1), Part.ACTIVATIONS, Phase.FORWARD, layer) for layer in range(layers)]
        free_all(frees[::-1], Phase.BACKWARD)
        return tuple(program.events)

    with pytest.raises(IrregularError):
        extended(growing(3), growing(4), 2)
