"""What a run trains with, put together by the job and handed around by the loop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from engine.data.prepare import Prepared
from engine.data.tokenizer import ModelTokenizer
from engine.errors import Problem
from engine.ledger import Ledger, events, metrics
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.profile import Profile
from engine.train import sharded
from engine.train.batches import Layout
from engine.train.memory import MemoryWatch
from engine.train.model import Loaded
from engine.train.objective import Objective
from engine.train.ranks import ALONE, Ranks

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Learner:
    """What computes: all that a step needs besides the rows, so that steps can also be simulated where there is no run.

    `validation_objective` is `objective` for the rows of validation: under dpo each knows what the reference says of its own rows.
    """

    profile: Profile
    loaded: Loaded
    scorer: nn.Module
    objective: Objective
    validation_objective: Objective
    optimizer: torch.optim.Optimizer
    ranks: Ranks = ALONE

    @property
    def cut(self) -> bool:
        """Whether each rank holds a part of the model only."""
        return sharded.wanted(self.profile.hardware, self.ranks)


@dataclass(frozen=True, kw_only=True)
class Parts(Learner):
    """All that stays the same from a run's first step to its last: what computes, the rows, and where it is told."""

    ledger: Ledger
    run: Run
    job: Job
    prepared: Prepared
    tokenizer: ModelTokenizer
    layout: Layout
    writer: metrics.Writer
    memory: MemoryWatch

    def event(
        self,
        kind: str,
        text: str,
        *,
        step: int | None = None,
        level: events.Level = "info",
        detail: Mapping[str, object] | None = None,
    ) -> None:
        """Append an event of this run. One that cannot be written goes to the log alone: telling never ends a run."""
        try:
            events.add(self.ledger, kind, text, run=self.run.id, job=self.job.id, step=step, level=level, detail=detail)
        except Problem as problem:
            log.warning("%s: %s (not in the ledger: %s)", kind, text, problem.what)
