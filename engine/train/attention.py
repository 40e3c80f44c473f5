"""Attention inside documents that lie one after the other in one row: no mask, no padding, nothing computed across documents.

Registered with transformers under the name DOCUMENTS. A forward pass that does not say where documents begin - validation's samples, a
padded batch, generation - is served by transformers' own sdpa, so a model may keep this for the whole run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from engine.train.batches import MicroBatch

DOCUMENTS: Final = "documents"


def told(batch: MicroBatch, attention: str | None) -> dict[str, Any]:
    """What a forward pass over a flat row is told, in the names of transformers' flash attention; `attention` is what the model uses."""
    if batch.bounds is None:
        return {}
    longest = max(batch.lengths)
    bounds = {
        "cu_seq_lens_q": batch.bounds,
        "cu_seq_lens_k": batch.bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }
    if attention != DOCUMENTS:
        return bounds
    # A mask of four dimensions is taken for one that is made already: none is built, which would look at the positions' values (a GPU would be
    # waited for) and take the square of the row's length.
    made = torch.empty((1, 1, 1, 1), dtype=torch.bool, device=batch.ids.device)
    return {**bounds, "attention_mask": made, "documents": batch.lengths}


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    documents: Sequence[int] | None = None,
    sliding_window: int | None = None,
    **told: Any,
) -> tuple[Tensor, None]:
    """Causal attention; query [rows, heads, length, size], key and value with as many heads or fewer; gives [rows, length, heads, size].

    `documents` are the lengths of those in the one row. `sliding_window` is how many tokens a token sees, itself counted.

    Raises:
        ValueError: attention sinks or a soft cap are asked for, or dropout on a GPU.
    """
    if told.get("s_aux") is not None or told.get("softcap") is not None:
        raise ValueError("attention inside documents knows neither sinks nor a soft cap")
    if documents is None:
        found, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **told)
        return found, None
    told |= {"documents": list(documents), "window": sliding_window}
    return (on_cpu if query.device.type == "cpu" else on_gpu)(module, query, key, value, told), None


def on_cpu(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, told: dict[str, Any]) -> Tensor:
    """sdpa for one document after the other."""
    lengths, window = told["documents"], told["window"]
    rows = [
        sdpa_attention_forward(
            module, q, k, v, _window(length, window, q.device), told.get("dropout", 0.0), told.get("scaling")
        )[0]
        for length, q, k, v in zip(
            lengths, *(torch.split(states, lengths, 2) for states in (query, key, value)), strict=True
        )
    ]
    return torch.cat(rows, 1)


def _window(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Who sees whom in a document that is longer than the window; None where all before are seen."""
    if window is None or length <= window:
        return None
    seen = torch.ones((length, length), dtype=torch.bool, device=device)
    return seen.tril_().triu_(1 - window)[None, None]


def on_gpu(_: nn.Module, query: Tensor, key: Tensor, value: Tensor, told: dict[str, Any]) -> Tensor:
    """Flash attention over all documents in one call; 16-bit only, without dropout.

    Raises:
        ValueError: dropout is asked for.
    """
    if told.get("dropout"):
        raise ValueError("attention inside documents has no dropout on a GPU")
    window = told["window"]
    device = "cpu" if query.device.type == "cpu" else "cuda"  # a simulated GPU's tensors are the CPU's
    if torch.is_autocast_enabled(device):
        # As sdpa does: rotated queries and keys are float32 beside 16-bit values, and the kernel does not know autocast.
        kind = torch.get_autocast_dtype(device)
        query, key, value = query.to(kind), key.to(kind), value.to(kind)
    longest = told["max_length_q"]
    # What lies to the left of a token, without itself; -1 for all of it (with 0 on the right: causal).
    left = -1 if window is None or longest <= window else window - 1
    found = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        told["cu_seq_lens_q"],
        told["cu_seq_lens_k"],
        longest,
        told["max_length_k"],
        scale=told.get("scaling"),
        window_size=(left, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(found, Tensor)
    return found[None]


def use_documents(model: PreTrainedModel) -> bool:
    """Let the model attend inside documents where it can: it would use sdpa, and tells attention its windows, as flash needs it to.

    Returns whether it does now.
    """
    if model.config._attn_implementation != "sdpa" or not model._supports_flash_attn:
        return False
    model.set_attn_implementation(DOCUMENTS)
    return bool(model.config._attn_implementation == DOCUMENTS)


AttentionInterface.register(DOCUMENTS, attend)
AttentionMaskInterface.register(DOCUMENTS, sdpa_mask)
