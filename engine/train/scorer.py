"""How surprised the model is by each supervised token: the one thing that all objectives are made of.

Logits are the largest tensor of a step (a vocabulary of 150,000 is 0.6 MB a token in float32), so only places that predict a supervised token
go through the head, and where these are many, a part at a time whose logits are computed again going backward.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from engine.train.adapter import virtual_tokens
from engine.train.attention import told
from engine.train.batches import MicroBatch

LOGITS_AT_ONCE: Final = 2**25
"""Logits that are in memory together, about 14 bytes each in 16 bits going backward: half a gigabyte."""
AGREEING: Final = 1e-5  # nats


class Scorer(nn.Module):
    """The model with its head, as one module: what runs forward and backward, and what several GPUs wrap.

    `own_head` has the model compute its logits itself, which is right for every model. Without it the head is applied to the decoder's hidden
    states here: less is computed where rows are padded, and logits of many tokens never stand in memory together. That leaves out what a
    model does to its logits afterwards (a soft cap, a scale), so it is for models that were seen to agree (`take_over_head`).
    """

    def __init__(self, model: nn.Module, autocast: torch.dtype | None) -> None:
        """`autocast` is the compute type where weights are kept in float32, None where they are computed with as they are."""
        super().__init__()
        self.model = model
        self.autocast = autocast
        self.own_head = True

    def forward(self, batch: MicroBatch) -> Tensor:
        """Cross-entropy in nats of each supervised token of the micro-batch; [targets] float32."""
        base = base_of(self.model)
        columns = batch.columns + virtual_tokens(self.model)
        inputs: dict[str, Any] = {
            "input_ids": batch.ids,
            "attention_mask": batch.mask,
            "position_ids": batch.positions,
            "use_cache": False,  # with a cache transformers takes packed documents for one
            **told(batch, base.config._attn_implementation),
        }
        # No cache: it would keep 16-bit copies of all weights until the end of the forward pass, those that FSDP has let go of among them.
        enabled = self.autocast is not None
        with torch.autocast(batch.ids.device.type, dtype=self.autocast, enabled=enabled, cache_enabled=False):
            if self.own_head:
                logits: Tensor = self.model(**inputs, logits_to_keep=columns).logits
                return _surprise(logits.flatten(0, 1)[batch.kept], batch.targets)
            decoder, head = base.get_decoder(), base.get_output_embeddings()  # type: ignore[no-untyped-call]
            hidden: Tensor = decoder(**inputs).last_hidden_state
            most = max(1, LOGITS_AT_ONCE // base.config.get_text_config().vocab_size)
            return _in_parts(head, hidden.flatten(0, 1)[batch.places], batch.targets, most)


def take_over_head(scorer: Scorer, batch: MicroBatch) -> bool:
    """Apply the head here from now on if this gives the scores of the model's own; returns whether it does. To be called without dropout.

    `batch` is to have one row: both ways then do the same operations, and any difference is something that the model does to its logits.
    Virtual tokens are put before the text around the decoder, so a model that learns a prompt does not agree and keeps its own.
    """
    with torch.no_grad():
        scorer.own_head = True
        own = scorer(batch)
        scorer.own_head = False
        try:
            scorer.own_head = not torch.allclose(scorer(batch), own, rtol=0.0, atol=AGREEING, equal_nan=True)
        except (RuntimeError, TypeError, AttributeError):  # its parts have other names, or give something else
            scorer.own_head = True
    return not scorer.own_head


def base_of(model: nn.Module) -> PreTrainedModel:
    """The causal language model itself, with the adapter's layers in it."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    assert isinstance(base, PreTrainedModel)
    return base


def _in_parts(head: nn.Module, hidden: Tensor, targets: Tensor, most: int) -> Tensor:
    """Cross-entropy from hidden states [targets, size], at most `most` at a time; whatever the head is: quantised, trained, with an adapter.

    torch's `linear_cross_entropy` takes a plain frozen weight and rounds what it gives for each token to the compute type, which the sums that
    preferences compare cannot bear; computing parts again costs the same.
    """
    if len(targets) <= most:
        return _surprise(head(hidden), targets)
    parts = zip(torch.split(hidden, most), torch.split(targets, most), strict=True)
    return torch.cat([checkpoint(_part, head, *part, use_reentrant=False) for part in parts])


def _part(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    return _surprise(head(hidden), targets)


def _surprise(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), targets, reduction="none")
