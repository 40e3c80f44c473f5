"""What is tried on this very model before it is trained. First of all the leak test: do documents that share a row see each other?

Whether they do depends on the architecture, on the attention kernel and on the method; all of it can look right and be wrong, since the loss falls
all the same. So it is tried: two documents share a row, the first one's tokens are replaced, and the second's scores must not change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from engine import compatible
from engine.data.prepare import Tokens
from engine.train.batches import Layout, micro_batches
from engine.train.scorer import Scorer, base_of, take_over_head

FIRST: Final = 24  # tokens of the document that is replaced
SECOND: Final = 16  # tokens of the one whose scores must stay
ROUNDING: Final = 4.0  # units of rounding that a score may move by, where it may at all
STRAYING: Final = 0.25
"""Mean difference in nats of the second document's scores to those that it has alone, which other positions or another window exceed; rounding
in bfloat16 made up to 0.05."""


def agree_on_the_head(scorer: Scorer, device: torch.device, pad_id: int) -> bool:
    """Whether the scorer's own way to apply the head gives the model's scores; it is taken if so."""
    tokens = _documents(scorer, 1)
    with asking(scorer, device):
        batch = next(micro_batches(tokens, [0], Layout(1, pad_id)))
        return take_over_head(scorer, batch.to(device))


def found(scorer: Scorer, layout: Layout, device: torch.device) -> str:
    """Why rows cannot be packed as `layout` says, in words that go on a sentence; empty where they can.

    Leaves weights, gradients, training mode and random generators as they were.

    Raises:
        torch.OutOfMemoryError: not even a few tokens fit.
    """
    roomy = replace(layout, row_tokens=max(layout.row_tokens or 0, FIRST + SECOND))
    with asking(scorer, device):
        try:
            with torch.no_grad():
                after = _second(scorer, _documents(scorer, 2), roomy, device)
                alone = _second(scorer, _documents(scorer, 1), Layout(1, layout.pad_id), device)
            before = _second(scorer, _documents(scorer, 1), roomy, device)
            before.sum().backward()  # type: ignore[no-untyped-call]
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, NotImplementedError, KeyError, IndexError) as error:
            return f"the model cannot compute them: {(str(error) or type(error).__name__).splitlines()[0]}"
        finally:
            scorer.zero_grad(set_to_none=True)
    if not bool(torch.isfinite(before).all()):
        return "scores in them are not finite"
    moved = _largest(before - after)
    if moved > _rounding(scorer) * _largest(before):
        return f"its documents see each other: another first document moved the second's scores by {moved:.2g}"
    strayed = float((before - alone).detach().abs().mean())
    if strayed > STRAYING:
        return f"scores in them differ by {strayed:.2g} from those of the document alone"
    return ""


@contextmanager
def asking(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Without dropout; afterwards every part's training mode and all random generators are as they were."""
    training = {part: part.training for part in module.modules()}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        module.eval()
        try:
            yield
        finally:
            for part, was in training.items():
                part.training = was


def _documents(scorer: Scorer, seed: int) -> Tokens:
    """Two documents of random tokens; the second is the same whatever the seed. The first is the longer one, so that it comes first."""
    known = base_of(scorer.model).config.get_text_config().vocab_size  # a method may wrap the embedding itself
    first, second = (
        np.random.default_rng(draw).integers(0, known, length) for draw, length in ((seed, FIRST), (0, SECOND))
    )
    ids = np.concatenate((first, second)).astype(np.int32)
    return Tokens(ids, np.ones(len(ids), np.bool_), np.array([0, FIRST, len(ids)]), ("first", "second"))


def _second(scorer: Scorer, tokens: Tokens, layout: Layout, device: torch.device) -> Tensor:
    """The second document's scores; [SECOND - 1]."""
    batches = [batch.to(device) for batch in micro_batches(tokens, [0, 1], layout)]
    scores: Tensor = scorer(batches[-1])
    second: Tensor = scores[batches[-1].owners == batches[-1].rows.index(1)]
    return second


def _largest(values: Tensor) -> float:
    return float(values.detach().abs().max())


def _rounding(scorer: Scorer) -> float:
    """How much scores may move relative to the largest without a leak: 0 where tokens are computed each by itself.

    Experts compute all tokens that chose them together, so other tokens change the order of additions; 8-bit layers look for large activations
    over all tokens, which moves a score by a unit of 8 bits.
    """
    base = base_of(scorer.model)
    if any(type(part).__name__ == "Linear8bitLt" for part in base.modules()):
        return ROUNDING / 127
    experts = compatible.experts(base.config.get_text_config().to_dict()) > 1
    return ROUNDING * torch.finfo(scorer.autocast or base.dtype).eps if experts else 0.0
