"""How rows go through a simulated model: what `engine.train.packing` finds by trying, told from the model's structure.

A run tries with numbers whether documents see each other and whether the head may be applied apart; fake tensors have no numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Final
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from engine.fit.question import Step
from engine.train import adapter
from engine.train.attention import use_documents
from engine.train.batches import Layout
from engine.train.scorer import Scorer, base_of

PAD: Final = 0


def layout_of(scorer: Scorer, step: Step) -> Layout:
    """The layout for the step's rows, as `packing.choose` does it: may change the model's attention and `scorer.own_head`."""
    layout = Layout(step.rows, PAD)
    if adapter.learns_a_prompt(scorer.model):
        return layout
    base = base_of(scorer.model)
    scorer.own_head = not _gives_what_its_head_gives(base)
    if not step.packed or _carries_over(base):
        return layout
    if use_documents(base) or "flash" in base.config._attn_implementation:
        return replace(layout, row_tokens=step.tokens, flat=True)
    return replace(layout, row_tokens=step.tokens) if _masks_by_positions(base) else layout


def _carries_over(base: PreTrainedModel) -> bool:
    """Whether layers with a state in place of keys and values would carry it from one document of a row to the next."""
    kinds = getattr(base.config.get_text_config(), "layer_types", None) or ()
    return any("linear" in kind or "conv" in kind for kind in kinds)


def _masks_by_positions(base: PreTrainedModel) -> bool:
    """Whether the model tells documents of a row apart by positions that start over: gpt-oss makes its masks without them."""
    looked = False

    def look(_: Tensor) -> None:
        nonlocal looked
        looked = True

    ids = torch.ones((1, 2), dtype=torch.long, device="meta")
    try:
        with torch.no_grad(), mock.patch("transformers.masking_utils.find_packed_sequence_indices", look):
            base.get_decoder()(  # type: ignore[no-untyped-call]
                input_ids=ids, position_ids=ids, use_cache=False
            )
    except (RuntimeError, TypeError, AttributeError, ValueError, NotImplementedError, AssertionError):
        pass  # masks come first; 4-bit layers assert that they are packed, which they are not yet
    return looked


def _gives_what_its_head_gives(base: PreTrainedModel) -> bool:
    """Whether the model's logits are what its head makes of the decoder's hidden states: tried with numbers in place of both."""
    hidden = torch.tensor([[[-1e3, 1e3]]])
    decoder, head = base.get_decoder(), base.get_output_embeddings()  # type: ignore[no-untyped-call]
    try:
        with _replaced(base, decoder, _Given(hidden)), _replaced(base, head, nn.Identity()):
            found = base(input_ids=torch.zeros((1, 1), dtype=torch.long), use_cache=False).logits
    except (RuntimeError, TypeError, AttributeError, ValueError):
        return False  # its parts have other names, or give something else
    return isinstance(found, Tensor) and torch.equal(found.float(), hidden)


class _Given(nn.Module):
    """In place of a decoder: gives the same whatever comes in, and nothing but hidden states."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self._hidden = hidden

    def forward(self, *_: object, **__: object) -> _Found:
        return _Found(last_hidden_state=self._hidden)


class _Found(SimpleNamespace):
    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, place: int) -> Tensor:
        assert place == 0
        found: Tensor = self.last_hidden_state
        return found


@contextmanager
def _replaced(base: PreTrainedModel, module: nn.Module, stand_in: nn.Module) -> Iterator[None]:
    name = next(name for name, found in base.named_modules() if found is module)
    base.set_submodule(name, stand_in)
    try:
        yield
    finally:
        base.set_submodule(name, module)
