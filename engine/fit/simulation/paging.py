"""Large states of paged optimizers lie in memory that CUDA moves between machine and GPU: PyTorch's allocator does not give it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Final
from unittest import mock

import torch
from bitsandbytes.optim.optimizer import Optimizer8bit
from torch import Tensor

from engine.fit.simulation.tracing import Tracer

PAGED_FROM: Final = 100_000  # weights: Optimizer8bit.get_state_buffer in bitsandbytes/optim/optimizer.py


@contextmanager
def paged(tracer: Tracer) -> Iterator[None]:
    """Leave such states out of what is recorded."""

    def buffer(optimizer: Optimizer8bit, weight: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        with tracer.host() if optimizer.is_paged and weight.numel() >= PAGED_FROM else nullcontext():
            return torch.zeros_like(weight, dtype=dtype)

    with mock.patch.object(Optimizer8bit, "get_state_buffer", buffer):
        yield
