"""How surprised the model is by each supervised token: the one thing that all objectives are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.train.batches import MicroBatch


class Scorer(nn.Module):
    """The model with its head, as one module: what runs forward and backward, and what several GPUs wrap."""

    def __init__(self, model: nn.Module, autocast: torch.dtype | None) -> None:
        """`autocast` is the compute type where weights are kept in float32, None where they are computed with as they are."""
        super().__init__()
        self.model = model
        self.autocast = autocast

    def forward(self, batch: MicroBatch) -> Tensor:
        """Cross-entropy in nats of each supervised token of the micro-batch; [targets] float32."""
        with torch.autocast(batch.ids.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            logits: Tensor = self.model(
                input_ids=batch.ids, attention_mask=batch.mask, use_cache=False, logits_to_keep=batch.columns
            ).logits
        return functional.cross_entropy(logits.flatten(0, 1)[batch.kept].float(), batch.targets, reduction="none")
