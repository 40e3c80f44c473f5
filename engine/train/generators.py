"""The random generators that a run draws from, dropout above all: their states out and in, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def torch_states() -> dict[str, Tensor]:
    """The states of torch's generators by device type."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def restore_torch(states: Mapping[str, Tensor]) -> None:
    """Put torch's generators back."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def other_states() -> dict[str, object]:
    """The states of Python's and NumPy's generators, as JSON can hold them."""
    version, internal, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    key = numpy_state["state"]["key"].tolist()
    return {
        "python": [version, list(internal), gauss],
        "numpy": {**numpy_state, "state": {"key": key, "pos": int(numpy_state["state"]["pos"])}},
    }


def restore_others(states: Mapping[str, Any]) -> None:
    """Put Python's and NumPy's generators back."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    saved = states["numpy"]
    key = np.array(saved["state"]["key"], np.uint32)
    np.random.set_state({**saved, "state": {"key": key, "pos": saved["state"]["pos"]}})
