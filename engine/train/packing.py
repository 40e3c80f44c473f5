"""How this model's rows are put together: what the profile asks for, as far as the model keeps documents apart.

Tried in the order of speed, the model as it is with its adapter at the start: all in one row with attention inside documents, then rows whose
documents transformers tells apart by their positions, then padding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine.profile import Profile
from engine.train import leaks
from engine.train.attention import use_documents
from engine.train.batches import Layout
from engine.train.model import Loaded
from engine.train.scorer import Scorer, base_of


@dataclass(frozen=True)
class Choice:
    """The layout, and in sentences what the model did not allow."""

    layout: Layout
    refused: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """How rows are put together, in a few words; packed ones have passed the leak test."""
        tokens = self.layout.row_tokens
        return f"packed to {tokens:,} tokens, no leak" if tokens else "one example each, padded"


def choose(loaded: Loaded, scorer: Scorer, resolved: Profile, pad_id: int) -> Choice:
    """The fastest layout in which no document sees another, and the head where it takes least memory.

    May change which attention the model uses and `scorer.own_head`; nothing else.

    Raises:
        torch.OutOfMemoryError: not even a few tokens fit.
    """
    rows = resolved.training.micro_batch
    assert isinstance(rows, int), "the profile is not resolved"
    layout = Layout(rows, pad_id)
    refused: list[str] = []
    if resolved.method.learns_a_prompt:
        if resolved.training.packing:
            refused.append("Rows are not packed: virtual tokens would stand before each row, not before each document.")
        return Choice(layout, tuple(refused))
    if not leaks.agree_on_the_head(scorer, loaded.device, pad_id):
        refused.append("The model computes its logits itself, since it does more to them than its head.")
    if resolved.training.packing:
        assert isinstance(resolved.training.row_tokens, int), "the profile is not resolved"
        packed, said = _packed(loaded, scorer, replace(layout, row_tokens=resolved.training.row_tokens))
        if said:
            refused.append(said)
        layout = packed or layout
    return Choice(layout, tuple(refused))


def _packed(loaded: Loaded, scorer: Scorer, rows: Layout) -> tuple[Layout | None, str]:
    """The packed layout, or None; and in a sentence why it is none, or the slower one."""
    slower = ""
    base = base_of(loaded.model)
    before = base.config._attn_implementation
    if use_documents(base) or "flash" in before:
        flat = replace(rows, flat=True)
        if not (leak := leaks.found(scorer, flat, loaded.device)):
            return flat, ""
        slower = f"Rows are packed behind a mask, which is slower: {leak}."
        base.set_attn_implementation(before)
    leak = leaks.found(scorer, rows, loaded.device)
    return (None, f"Rows are not packed: {leak}.") if leak else (rows, slower)
