"""What a run does with a model, once each: reference, two optimizer steps, validation, a checkpoint and the result.

It is the engine's own code on rows of the sizes that are asked about, so it runs alike on fake tensors and, in tests, on real ones. Two
steps: the first makes the optimizer's state, the second is as all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.data.prepare import Tokens
from engine.fit.question import Phase, Step
from engine.train import attempt, checkpoint, reference, result, validate
from engine.train.batches import Layout, MicroBatch, rows_of
from engine.train.checkpoint import Progress
from engine.train.objective import Dpo, Orpo
from engine.train.parts import Learner
from engine.train.quantized import DTYPES
from engine.train.ranks import Piece, Ranks
from engine.train.watch import Clock

Phases = Callable[[Phase], AbstractContextManager[None]]
Over = Callable[[str], None]
DOCUMENTS: Final = 2  # that share a packed row


class Copying(Ranks):
    """Ranks whose micro-batches are copied to the device, also where that is the CPU: a GPU has copies, and NumPy's memory is not torch's."""

    def pieces(
        self, tokens: Tokens, examples: Sequence[int] | NDArray[np.int64], layout: Layout, *, equally: bool
    ) -> Iterator[Piece]:
        """This rank's micro-batches; see `Ranks.pieces`."""
        for piece in super().pieces(tokens, examples, layout, equally=equally):
            yield replace(piece, batch=_Copied(**vars(piece.batch)))


class _Copied(MicroBatch):
    def to(self, device: torch.device) -> MicroBatch:
        """A copy."""
        copies: dict[str, Any] = {name: held.clone() for name, held in vars(self).items() if isinstance(held, Tensor)}
        return replace(self, **copies)


class PhaseClock(Clock):
    """Enters the phase of each part of a step when the part before is over, and tells `over` of that."""

    NEXT: Final = {"data": Phase.FORWARD, "forward": Phase.BACKWARD, "backward": Phase.STEP}

    def __init__(self, phases: Phases, over: Over) -> None:
        super().__init__(torch.device("cpu"), exact=False)
        self._phases = phases
        self._over = over
        self._now = ExitStack()
        self._now.enter_context(phases(Phase.FORWARD))

    def lap(self, part: str) -> None:
        """The part is over."""
        self._over(part)
        self._now.close()
        if part in self.NEXT:
            self._now.enter_context(self._phases(self.NEXT[part]))


def tokens_of(step: Step, layout: Layout, *, per_example: int) -> Tokens:
    """Examples for an optimizer step whose micro-batches are as asked; padded where the layout is, which says what the model allows.

    Of padded rows the first of the first micro-batch is longer than the others, and the last of the second is shorter: both need a mask.
    """
    rows = step.rows * (2 if step.accumulates else 1)
    if layout.row_tokens is None:
        lengths = [step.tokens] + [max(2, step.tokens - 1)] * (rows - 1)
        if step.accumulates:
            lengths[-1] = max(2, step.tokens - 2)
    else:
        lengths = [step.tokens // DOCUMENTS] * (DOCUMENTS * rows)
    scored = _dealt(step.supervised * rows // step.rows, lengths)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    supervised = np.zeros(starts[-1], np.bool_)
    for end, count in zip(starts[1:].tolist(), scored, strict=True):
        supervised[end - count : end] = True
    names = tuple(str(row) for row in range(len(lengths)))
    return Tokens(np.ones(starts[-1], np.int32), supervised, starts, names, per_example=per_example)


def _dealt(supervised: int, lengths: list[int]) -> list[int]:
    """How many tokens of each row are supervised, at its end; the first of a row never is."""
    each, more = divmod(supervised, len(lengths))
    return [min(length - 1, each + (place < more)) for place, length in enumerate(lengths)]


def run(
    learner: Learner,
    step: Step,
    layout: Layout,
    phases: Phases,
    *,
    over: Over = lambda _: None,
    host: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """All that a run does; `phases` is entered for each, `host` around what brings tensors into main memory.

    `over` is told when a part of a step is over: data, forward, backward, update.
    """
    tokens = tokens_of(step, layout, per_example=2 if isinstance(learner.objective, (Dpo, Orpo)) else 1)
    if isinstance(learner.objective, Dpo):
        learner = _with_reference(learner, tokens, layout, phases)
    progress = Progress(scale=2.0)  # what a run finds out: with more the values that nobody learned may overflow
    trained = list(checkpoint.trained(learner.loaded.model).values())
    examples = np.arange(tokens.examples)
    first = examples[: len(examples) // 2] if step.accumulates else examples  # one micro-batch makes the state
    with phases(Phase.STEP):
        for chosen in (first, examples):
            attempt.once(learner, progress, trained, tokens, chosen, layout, PhaseClock(phases, over))
    with phases(Phase.EVALUATION):
        validate.validation_loss(
            learner.loaded,
            learner.scorer,
            learner.validation_objective,
            tokens,
            layout,
            ranks=learner.ranks,
            equally=learner.cut,
        )
    with phases(Phase.SAVING):
        with host():
            saved(learner)
        if host is not nullcontext:
            _pass_through(learner)


def saved(learner: Learner) -> None:
    """A checkpoint's tensors and the result's are brought into main memory, one after the other."""
    weights, tensors, _ = checkpoint.collected(learner.loaded.model, learner.optimizer)
    checkpoint.check_finite(2, {**weights, **tensors})
    del weights, tensors
    result.collected(learner.loaded.model, learner.profile.model, learner.ranks)


def _pass_through(learner: Learner) -> None:
    """What a GPU takes to bring weights into main memory: those of another type are cast, one by one, and others take nothing.

    copy_requires_temporaries() in aten/src/ATen/native/cuda/Copy.cu.
    """
    torch.empty(1)  # or the phase would not show in what is recorded
    if learner.profile.method.name != "full":
        return
    for weight in learner.loaded.model.parameters():
        weight.detach().to(DTYPES[learner.profile.model.dtype])


def _with_reference(learner: Learner, tokens: Tokens, layout: Layout, phases: Phases) -> Learner:
    """The pairs are scored with the model as it begins; what it says of them is nothing."""
    with phases(Phase.EVALUATION), validate.asking(learner.loaded), reference.bare(learner.loaded.model):
        for piece in learner.ranks.pieces(tokens, range(tokens.examples), layout, equally=True):
            reference.scored(learner.scorer, piece.batch.to(learner.loaded.device))
    assert isinstance(learner.objective, Dpo)
    objective = replace(learner.objective, reference=np.zeros(len(rows_of(tokens, range(tokens.examples))), np.float32))
    return replace(learner, objective=objective, validation_objective=objective)
