"""What others predict of the same rows: fitcheck-llm, in an environment of its own, and accelerate's estimate-memory."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.trackers import environment

FITCHECK: Final = "fitcheck-llm==0.3.1"
INSIDE: Final = Path(__file__).with_name("vram_peers_inside.py")
MIB: Final = 1 << 20
Row = Mapping[str, Any]
Predicted = Mapping[str, float | None]


@dataclass(frozen=True)
class Peer:
    """What it predicts of each row in MiB, nothing for rows that it refuses; why it says nothing at all, or ''."""

    rows: tuple[Predicted, ...]
    left_out: str = ""


def predicted(rows: Sequence[Row]) -> dict[str, Peer]:
    """By name."""
    return {"fitcheck-llm 0.3.1": _fitcheck(rows), "accelerate estimate-memory": _accelerate(rows)}


def _fitcheck(rows: Sequence[Row]) -> Peer:
    nothing: tuple[Predicted, ...] = tuple({} for _ in rows)
    python, wrong = environment(FITCHECK)
    if wrong:
        return Peer(nothing, wrong)
    given = json.dumps([{"run": row["run"], "model_config": row["model_config"]} for row in rows])
    done = subprocess.run([str(python), str(INSIDE)], input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        return Peer(nothing, (done.stderr.strip().splitlines() or ["it failed"])[-1])
    return Peer(tuple(json.loads(done.stdout)))


def _accelerate(rows: Sequence[Row]) -> Peer:
    """Its peak of "training using Adam"; it knows of weights, gradients and optimizer, not of adapters, rows or tokens."""
    from accelerate.commands.estimate import estimate_training_usage

    kinds = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
    found: list[Predicted] = []
    for row in rows:
        whole = 4 * row["model_config"]["num_params"]
        usage = estimate_training_usage(whole, kinds[row["run"]["precision"]])
        found.append({"allocated": max(usage.values()) / MIB})
    return Peer(tuple(found))
