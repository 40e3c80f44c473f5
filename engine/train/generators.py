"""The random generators that a run draws from, dropout above all: their states out and in, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.train.ranks import Ranks


def seed(number: int) -> None:
    """Seed all of them."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


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


def of_ranks(ranks: Ranks) -> tuple[dict[str, Tensor], list[dict[str, object]]]:
    """The states of all ranks, each of which draws numbers of its own: torch's by device type (`1.cpu` is rank 1's), the others' by rank."""
    tensors, others = zip(*ranks.gathered((torch_states(), other_states())), strict=True)
    named = {
        name if rank == 0 else f"{rank}.{name}": state
        for rank, states in enumerate(tensors)
        for name, state in states.items()
    }
    return named, list(others)


def restore_rank(ranks: Ranks, tensors: Mapping[str, Tensor], others: Sequence[Mapping[str, Any]]) -> None:
    """Put back this rank's own."""
    own = f"{ranks.rank}." if ranks.rank else ""
    restore_torch({name.removeprefix(own): state for name, state in tensors.items() if name.startswith(own)})
    restore_others(others[ranks.rank])
