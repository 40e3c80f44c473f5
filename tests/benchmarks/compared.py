"""The run that the throughput benchmark compares, for all of its parts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine.profile import Profile
from tests.benchmarks import ragged

PLAIN: Final = {"instruction": "instruction", "response": "output"}
RATE: Final = 2e-4
BATCH: Final = 16  # examples of a step
AT_ONCE: Final = 8  # rows of a forward pass


def profile(base: Path, data: Path, columns: dict[str, str], method: str, **training: object) -> Profile:
    """The same for all but for how rows are put together; on the CPU, in float32."""
    return Profile.model_validate(
        {
            "model": {"base": str(base), "dtype": "float32", "attention": "sdpa"},
            "data": [{"source": str(data), "columns": columns}],
            "template": {"max_tokens": ragged.WINDOW},
            "split": {"test": 0, "validation": 0},
            "method": {"name": method, "dropout": 0.0},
            "training": {
                "effective_batch": BATCH,
                "micro_batch": AT_ONCE,
                "row_tokens": ragged.WINDOW,
                "learning_rate": RATE,
                "schedule": "constant",
                "warmup_ratio": 0,
                "weight_decay": 0.01,
                "checkpoint_activations": False,
                "save_every": 10**6,
                "evaluate_every": 10**6,
                **training,
            },
            "hardware": {"device": "cpu", "gpus": (), "ranks": 1, "sharding": "replicate"},
        }
    )
