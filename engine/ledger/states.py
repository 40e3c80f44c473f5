"""The states of a run and a job."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Only the job itself writes finished, stopped and failed; `lost` is never written but seen (`jobs.seen_state`)."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


LIVE: Final = frozenset({State.QUEUED, State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING})
"""A process is at work, or should be."""

ENDED: Final = frozenset({State.FINISHED, State.STOPPED, State.FAILED, State.LOST})
