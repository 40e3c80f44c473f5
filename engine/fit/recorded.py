"""What was predicted of a run's memory, what was measured, and at which step: kept in the ledger among what is known of the run.

All figures are in MiB. They stand in the run's environment under `memory`, so they travel with it into other ledgers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.fit.estimate import GpuFit
from engine.fit.question import Step


@dataclass(frozen=True)
class Figures:
    """Peaks of a run's process; None is what nobody knows. `phases` are (allocated, reserved) by phase. `context_mib` is what it held besides
    torch's memory: CUDA's own; on a CPU, what the libraries take before there is a model.

    `source` says where a prediction is from (simulated, interpolated, estimated), or the measured `process_mib`: the driver's own count,
    what torch reserved and the kept context together (`context`), or the kernel's for main memory (`resident`).
    """

    source: str
    allocated_mib: float | None = None
    reserved_mib: float | None = None
    process_mib: float | None = None
    context_mib: float | None = None
    phases: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Recorded:
    """A run's figures. `step` is the costliest micro-batch that it may meet, as its data and layout have it."""

    predicted: Figures | None = None
    measured: Figures | None = None
    step: Step | None = None


def of(environment: Mapping[str, object]) -> Recorded:
    """What a run's environment holds of it; nothing for runs that were not trained by the engine."""
    found = environment.get("memory")
    if not isinstance(found, dict):
        return Recorded()
    step = found.get("step")
    return Recorded(
        _figures(found.get("predicted")),
        _figures(found.get("measured")),
        Step(**step) if isinstance(step, dict) else None,
    )


def kept(
    *, predicted: Figures | None = None, measured: Figures | None = None, step: Step | None = None
) -> dict[str, object]:
    """What `engine.ledger.runs.record` takes as environment to add these to what is known."""
    values = {"predicted": predicted, "measured": measured, "step": step}
    return {"memory": {key: asdict(value) for key, value in values.items() if value is not None}}


def of_fit(fit: GpuFit) -> Figures:
    """What is predicted of the memory of a run's process, or of one of its ranks."""
    allocated, reserved, process = (
        fit.predicted_allocated_mib,
        fit.predicted_reserved_mib,
        fit.predicted_process_mib,
    )
    return Figures(
        fit.source,
        allocated,
        reserved,
        process,
        process - reserved,
        {str(phase): pair for phase, pair in fit.phases.items()},
    )


def _figures(values: Any) -> Figures | None:
    if not isinstance(values, dict):
        return None
    phases = {phase: (pair[0], pair[1]) for phase, pair in values.get("phases", {}).items()}
    return Figures(**{**values, "phases": phases})
