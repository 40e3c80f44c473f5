"""What CUDA itself takes of each GPU, measured on this machine: once for a GPU, its driver and a version of torch, and kept in the ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from engine.errors import Problem
from engine.gpu import Gpu
from engine.ledger import Ledger, contexts
from engine.ledger.contexts import Context

ROOM: Final = 2048.0  # MiB that have to be free: some hundred are taken for seconds, and must not be missed by a run that is near its peak
PATIENCE: Final = 120.0  # seconds: torch from a slow disk, and a first start of the driver
MEASURE: Final = (sys.executable, "-P", "-m", "engine.train.context")


def of_gpu(ledger: Ledger, gpu: Gpu) -> Context | None:
    """What is kept for this GPU with the driver and the torch of now; None where it has not been measured or there is no torch."""
    torch = _torch()
    return contexts.find(ledger, gpu.uuid, gpu.driver or "", torch) if torch else None


def ensured(ledger: Ledger, gpu: Gpu) -> Context:
    """What is kept for this GPU, or else what is measured now, in a process of its own that takes a few seconds.

    Raises:
        Problem: it cannot be measured (code `gpu`).
    """
    found = of_gpu(ledger, gpu)
    if found is None:
        found = measured(gpu)
        if not ledger.read_only:
            contexts.keep(ledger, found)
    return found


def measured(gpu: Gpu) -> Context:
    """Measure it now.

    Raises:
        Problem: torch is not installed or cannot use the GPU, little of it is free, or the driver does not tell what this process holds.
    """
    if gpu.free_mib is not None and gpu.free_mib < ROOM:
        raise _unknown(gpu, f"Only {gpu.free_mib:,.0f} MiB of it are free, and what runs there may need them.")
    alone = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpu.uuid, "PYTHONSAFEPATH": "1"}
    try:
        child = subprocess.run(MEASURE, env=alone, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise _unknown(gpu, f"No answer within {PATIENCE:.0f} s.") from None
    lines = (child.stdout if child.returncode == 0 else child.stderr).strip().splitlines()
    if child.returncode or not lines:
        raise _unknown(gpu, lines[-1] if lines else f"The process that measures it ended with {child.returncode}.")
    told: dict[str, Any] = json.loads(lines[-1])
    if problem := told.get("problem"):
        raise _unknown(gpu, str(problem))
    return Context(
        gpu.uuid, gpu.driver or "", _torch(), gpu.name, float(told["mib"]), float(told["workspace_mib"]), time.time()
    )


def _unknown(gpu: Gpu, why: str) -> Problem:
    return Problem(
        f"What CUDA holds of GPU {gpu.index} ({gpu.name}) could not be measured",
        why,
        "Until it is, a usual figure is taken. See: workbench doctor",
        code="gpu",
    )


def _torch() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""
