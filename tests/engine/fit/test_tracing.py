"""The tracer: what is recorded of tensors and their deaths, and whose they are said to be."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from engine.fit.allocator import replay
from engine.fit.question import Part, Phase
from engine.fit.simulation.standins import workspace
from engine.fit.simulation.tracing import Tracer, tensors
from engine.fit.stream import Stream

WIDTH, ROWS = 64, 32


class Block(nn.Module):
    """Two linear layers, recomputed when asked."""

    def __init__(self, recompute: bool) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.recompute = recompute

    def forward(self, given: Tensor) -> Tensor:
        return given + self.down(torch.relu(self.up(given)))


class Tower(nn.Module):
    """Some blocks and an output layer that shares the input's weight."""

    def __init__(self, depth: int, recompute: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, WIDTH)
        self.blocks = nn.ModuleList(Block(recompute) for _ in range(depth))
        self.head = nn.Linear(WIDTH, 100, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = checkpoint(block, hidden, use_reentrant=False) if block.recompute else block(hidden)
        logits: Tensor = self.head(hidden)
        return logits


def made_fake(model: nn.Module) -> nn.Module:
    """A model built on the meta device with fake parameters and buffers instead; what is shared stays shared. Records their allocation.

    Must run inside a tracer.
    """
    stood: dict[int, Tensor] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is None or tensor.device.type != "meta":
                    continue
                if id(tensor) not in stood:
                    fake = torch.empty_like(tensor, device="cpu")
                    stood[id(tensor)] = (
                        nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake
                    )
                held[name] = stood[id(tensor)]  # type: ignore[assignment]
    return model


def step(depth: int = 3, *, recompute: bool = False, capability: tuple[int, int] | None = None) -> Stream:
    """Two steps of a tower, as a training program makes them."""
    with torch.device("meta"):
        tower = Tower(depth, recompute)
    with Tracer(capability=capability, vocabulary=100) as tracer:
        made_fake(tower)
        tracer.mark(Part.WEIGHTS, tower.parameters())
        tracer.follow(tower.blocks)  # type: ignore[arg-type]
        optimizer = torch.optim.AdamW(tower.parameters())
        tokens = torch.zeros(ROWS, dtype=torch.long)
        for _ in range(2):
            with tracer.phase(Phase.FORWARD):
                loss = nn.functional.cross_entropy(tower(tokens), tokens)
            with tracer.phase(Phase.BACKWARD):
                loss.backward()
            tracer.mark(Part.GRADIENTS, (each.grad for each in tower.parameters() if each.grad is not None))
            with tracer.phase(Phase.STEP):
                optimizer.step()
                optimizer.zero_grad()
            tracer.mark(Part.OPTIMIZER, tensors(list(optimizer.state.values())))
    return tracer.stream


def test_a_tensor_is_there_until_its_last_view_is_gone() -> None:
    with Tracer(capability=None) as tracer:
        given = torch.empty(1000)
        view = given[10:20]
        del given
        assert sum(1 for event in tracer.stream if not event.size) == 0
        del view
    assert [event.size for event in tracer.stream] == [4000, 0]


def test_every_block_is_made_once_and_freed_at_most_once() -> None:
    events = step(recompute=True, capability=(8, 0))
    made = Counter(event.block for event in events if event.size)
    gone = Counter(event.block for event in events if not event.size)
    assert set(made.values()) == {1} and set(gone.values()) == {1} and set(gone) <= set(made)


def test_shared_weights_are_there_once() -> None:
    weights = sum(event.size for event in step(depth=1) if event.part is Part.WEIGHTS)
    assert weights == 4 * (100 * WIDTH + 2 * 4 * WIDTH * WIDTH + 5 * WIDTH)


def test_what_is_left_after_a_step_is_weights_and_the_optimizer() -> None:
    events = step()
    left = {event.block: event for event in events if event.size}
    for event in events:
        if not event.size:
            del left[event.block]
    sizes = Counter[Part]()
    for event in left.values():
        sizes[event.part] += event.size
    count = len([event for event in left.values() if event.part is Part.WEIGHTS])
    assert sizes[Part.OPTIMIZER] == 2 * sizes[Part.WEIGHTS] + 4 * count  # moments, and a step count each
    assert Part.GRADIENTS not in sizes


def test_recomputing_keeps_less_and_each_block_is_told_from_the_others() -> None:
    kept, recomputed = step(6), step(6, recompute=True)
    assert replay(recomputed).phases[Phase.FORWARD][0] < replay(kept).phases[Phase.FORWARD][0]
    for events in (kept, recomputed):
        for phase in (Phase.FORWARD, Phase.BACKWARD, Phase.STEP):
            sizes = Counter((event.layer, event.size) for event in events if event.size and event.phase is phase)
            inner = [sorted((size, n) for (layer, size), n in sizes.items() if layer == index) for index in range(1, 5)]
            assert inner[0] and all(each == inner[0] for each in inner)


def test_gradients_belong_to_their_block() -> None:
    gradients = Counter(event.layer for event in step(3) if event.size and event.part is Part.GRADIENTS)
    assert gradients == {0: 8, 1: 8, 2: 8, None: 2}


def test_each_thread_that_multiplies_takes_a_workspace_once() -> None:
    events = [event for event in step(capability=(7, 5)) if event.size == workspace((7, 5))]
    assert [event.phase for event in events] == [Phase.FORWARD, Phase.BACKWARD]
    assert workspace((7, 5)) == 8_519_680 and workspace((9, 0)) == 33_554_432
    assert not [event for event in step(capability=None) if event.size == workspace((7, 5))]


def test_what_stays_in_the_machines_memory_is_not_recorded() -> None:
    with Tracer(capability=(8, 0)) as tracer:
        with tracer.host():
            kept = torch.empty(1000)
        del kept
        free = tracer.take(123, Part.OPTIMIZER)
        free()
    assert [(event.size, event.part) for event in tracer.stream] == [(123, Part.OPTIMIZER), (0, Part.OPTIMIZER)]


def test_logits_are_told_by_their_width() -> None:
    logits = [event for event in step() if event.part is Part.LOGITS and event.size]
    assert logits and all(event.size == 4 * 100 * ROWS for event in logits)
