"""What a simulated step depends on, and what is known of it then: between those who ask, who need no torch, and the simulation, which does.

A question holds everything that decides the answer and nothing else, so that its key finds kept answers. Sizes are in bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Literal


class Phase(StrEnum):
    """What a process is doing when memory is taken."""

    LOAD = "load"
    FORWARD = "forward"
    BACKWARD = "backward"
    STEP = "step"
    EVALUATION = "evaluation"
    SAVING = "saving"


class Part(StrEnum):
    """What memory is taken for. Context is the driver's and not in here."""

    WEIGHTS = "weights"
    ADAPTER = "adapter"
    GRADIENTS = "gradients"
    OPTIMIZER = "optimizer"
    ACTIVATIONS = "activations"
    LOGITS = "logits"
    TEMPORARIES = "temporaries"


@dataclass(frozen=True)
class Step:
    """A micro-batch and how it goes through: `rows` x `tokens`, of which `supervised` are scored together (all rows).

    `packed`: several documents share a row. `accumulates`: an optimizer step takes several micro-batches, so gradients stand while the next
    goes forward.
    """

    rows: int
    tokens: int
    supervised: int
    packed: bool
    checkpointing: bool
    accumulates: bool


@dataclass(frozen=True)
class Machine:
    """What of the machine matters: `capability` of the GPU (major, minor), None on a CPU; how many ranks share the work and how."""

    capability: tuple[int, int] | None
    ranks: int = 1
    sharding: Literal["replicate", "shard"] = "replicate"


@dataclass(frozen=True)
class Question:
    """How much memory a rank of a run takes.

    `config` is the base's config.json; `model`, `method` and `training` are the values of those parts of the profile that change what is
    computed (`engine.fit.asking` makes them), so that two profiles that compute the same ask the same.
    """

    config: Mapping[str, object]
    model: Mapping[str, object]
    method: Mapping[str, object]
    training: Mapping[str, object]
    step: Step
    machine: Machine

    @property
    def text(self) -> str:
        """As canonical JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @property
    def key(self) -> str:
        """Equal for equal questions; 32 hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Answer:
    """Peaks of a process in bytes: `allocated` by tensors, `reserved` by PyTorch's allocator for them, over all phases and in each.

    `parts` are what is allocated at the moment when most is; they add up to `allocated`.
    """

    allocated: int
    reserved: int
    phases: Mapping[Phase, tuple[int, int]]
    parts: Mapping[Part, int]
