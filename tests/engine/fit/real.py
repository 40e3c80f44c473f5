"""What a real run of a tiny model allocates on the CPU, as PyTorch's own allocator tells its profiler: the truth for simulated steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from engine.fit.question import Phase, Question
from engine.fit.simulation import building, stepping
from engine.train import model, objective, optimizer, packing
from engine.train.model import Loaded
from engine.train.parts import Learner
from engine.train.scorer import Scorer

MARK: Final = "phase:"
Spread = Callable[[Scorer, Loaded], nn.Module]


def alone(scorer: Scorer, loaded: Loaded) -> nn.Module:
    """The scorer, which is not shared with other ranks."""
    return scorer


def peaks(base: Path, question: Question, spread: Spread = alone) -> dict[Phase, int]:
    """Bytes allocated at most in each phase of a real run of the base in this folder, its weights among them.

    `spread` makes of the scorer what a rank has of it.
    """
    asked = building.profile_of(question)
    settings = asked.model.model_copy(update={"base": str(base)})
    resolved = asked.model_copy(update={"model": settings})
    loaded = model.load(resolved, building.CPU, vocabulary=400)
    scorer = Scorer(loaded.model, loaded.autocast)
    layout = packing.choose(loaded, scorer, resolved, 0).layout
    made = objective.make(resolved.training)
    held = sum(_sizes(loaded.model).values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        if spread is not alone:
            _copy(loaded.model)
        with _phase(Phase.LOAD):
            shared = spread(scorer, loaded)
        learner = Learner(
            profile=resolved,
            loaded=loaded,
            scorer=shared,
            objective=made,
            validation_objective=made,
            optimizer=optimizer.make(loaded.model, resolved.training, building.CPU),
            ranks=stepping.Copying(),
        )
        stepping.run(learner, question.step, layout, _phase)
    return _peaks(seen, held)


@contextmanager
def _phase(phase: Phase) -> Iterator[None]:
    with record_function(MARK + phase):
        yield


def _copy(module: nn.Module) -> None:
    """Copies weights, of whose end the profiler would not hear if they were there before it looks."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.clone()


def _sizes(module: nn.Module) -> dict[int, int]:
    """Bytes of what a model holds, each once; quantised weights with their scales."""
    found: dict[int, int] = {}
    for tensor in (*module.parameters(), *module.buffers(), *_scales(module)):
        found[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
    return found


def _scales(module: nn.Module) -> Iterator[Tensor]:
    """What bitsandbytes keeps beside codes: of 4 bits with the weight, of 8 with the module."""
    for part in module.modules():
        weight = part._parameters.get("weight")
        state = getattr(weight, "quant_state", None)
        for held in (state, getattr(state, "state2", None), getattr(part, "state", None)):
            for name in ("absmax", "code", "offset", "SCB"):
                scale = getattr(held, name, None)
                if isinstance(scale, Tensor):
                    yield scale


def _peaks(seen: profile, held: int) -> dict[Phase, int]:
    """The highest sum of allocations while each phase lasted."""
    tree = seen.profiler.kineto_results.experimental_event_tree()  # type: ignore[union-attr]
    changes: list[tuple[int, int]] = []
    spans: list[tuple[int, int, Phase]] = []
    todo = list(tree)
    while todo:
        event = todo.pop()
        todo += event.children
        if event.tag == torch._C._profiler._EventType.Allocation:
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
        elif event.name.startswith(MARK):
            spans.append((event.start_time_ns, event.end_time_ns, Phase(event.name.removeprefix(MARK))))
    found = {Phase.LOAD: held}
    now = held
    began = min(start for start, _, _ in spans)
    for when, size in sorted((change for change in changes if change[0] >= began), key=lambda change: change[0]):
        now += size
        inside = [(start, phase) for start, end, phase in spans if start <= when <= end]
        if inside:
            phase = max(inside)[1]  # the innermost
            found[phase] = max(found.get(phase, 0), now)
    return found
