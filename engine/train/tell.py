"""What a run tells while it trains: metrics, progress with its expected end, and events for what is odd about a step."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import Problem
from engine.fit import recorded
from engine.ledger import jobs, runs
from engine.train import flops
from engine.train.checkpoint import Progress
from engine.train.energy import Energy
from engine.train.parts import Parts
from engine.train.watch import Clock

log = logging.getLogger(__name__)

NOT_FINITE_IN_A_ROW: Final = 5  # steps without an update before a run gives up
SPIKE: Final = 10.0  # times the median of the last gradient norms
SPIKE_WINDOW: Final = 50
TELL_EVERY: Final = 0.5  # seconds between writing where the run is: steps may be shorter


class Teller:
    """Writes one run's story to the ledger. None of its own state matters to how the run goes on."""

    def __init__(self, parts: Parts, progress: Progress, *, steps: int, per_epoch: int) -> None:
        self._parts = parts
        self._progress = progress
        self._steps = steps
        self._per_epoch = per_epoch
        self._memory = parts.memory
        on_gpu = parts.loaded.device.type == "cuda"
        self._energy = Energy(watched=on_gpu)
        self._cost = flops.cost(parts.loaded)
        name = torch.cuda.get_device_name(parts.loaded.device) if on_gpu else ""
        self._peak = flops.peak(name, parts.profile.model.dtype)
        self._norms: deque[float] = deque(maxlen=SPIKE_WINDOW)
        self._told = 0.0
        self._began = time.monotonic()
        self._began_at = progress.step

    def step(self, loss: float, norm: float, rate: float, told: Mapping[str, float]) -> None:
        """The metrics that a resumed run repeats bit for bit; `told` are the objective's own."""
        progress = self._progress
        values = {
            "train/loss": loss,
            "train/grad_norm": norm,
            "train/rate": rate,
            "train/tokens": progress.tokens,
            "train/epoch": progress.step / self._per_epoch,
            **{f"train/{name}": value for name, value in told.items()},
        }
        self._parts.writer.log(progress.step, values)

    def timings(self, clock: Clock, *, lengths: NDArray[np.int64], supervised: int) -> None:
        """What differs from one time to the next, in rows of its own; `lengths` are of all rows that the step read.

        `train/mfu` is the share of the card's published matrix rate that the model's own arithmetic came to, on each GPU; absent
        where that rate is not known. `energy/joules` are those of this process so far.
        """
        tokens, worked, world = int(lengths.sum()), self._cost.of(lengths, supervised), self._parts.ranks.world
        self._progress.read += tokens
        self._progress.flops += worked
        rate = worked / clock.seconds
        values = {"train/tokens_per_second": tokens / clock.seconds, "train/tflops": rate / 1e12, **self._memory.read()}
        if clock.computed and world == 1:
            values["train/padding"] = 1 - tokens / max(tokens, clock.computed)
        if self._peak:
            values["train/mfu"] = rate / (world * self._peak)
        if (joules := self._energy.read()) is not None:
            values["energy/joules"] = joules
        if clock.exact:
            values |= {f"time/{part}": seconds for part, seconds in clock.laps.items()}
        self._parts.writer.log(self._progress.step, values)

    def oddities(self, loss: float, norm: float, rows: list[str]) -> None:
        """Events for a step without an update and for a gradient far above the usual.

        Raises:
            Problem: too many steps in a row were without an update.
        """
        if self._progress.not_finite:
            which = "loss" if not math.isfinite(loss) else "gradient"
            text = f"The {which} is not finite; the weights were left as they were. Rows {_named(rows)}."
            self._warn("not finite", text, rows)
            if self._progress.not_finite >= NOT_FINITE_IN_A_ROW:
                raise self._hopeless(which)
            return
        if len(self._norms) == SPIKE_WINDOW and norm > SPIKE * (usual := statistics.median(self._norms)):
            self._warn("gradient", f"Gradient norm {norm:.3g}, usually {usual:.3g}. Rows {_named(rows)}.", rows)
        self._norms.append(norm)

    def _warn(self, kind: str, text: str, rows: list[str]) -> None:
        self._parts.event(kind, text, step=self._progress.step, level="warning", detail={"rows": rows})

    def _hopeless(self, which: str) -> Problem:
        return Problem(
            f"The {which} was not finite for {NOT_FINITE_IN_A_ROW} steps in a row, up to step {self._progress.step}",
            "No weights were changed in them, and the last checkpoint is good.",
            "Look at the rows that the events name; else lower training.learning_rate or use bfloat16 for float16.",
            code="NaN",
        )

    def where(self, *, now: bool = False) -> None:
        """Where the run is and when it should end; said the next time where the ledger cannot be written now."""
        if not now and time.monotonic() - self._told < TELL_EVERY:
            return
        self._told = time.monotonic()
        parts, step = self._parts, self._progress.step
        done = step - self._began_at
        per_step = (time.monotonic() - self._began) / done if done else None
        ends = time.time() + per_step * (self._steps - step) if per_step is not None else None
        done_so_far = {
            "supervised": self._progress.tokens,
            "tokens": self._progress.read,
            "flops": self._progress.flops,
        }
        try:
            if now:
                self._memory.look()
                measured = recorded.kept(measured=self._memory.figures())
                runs.record(parts.ledger, parts.run, environment={"work": done_so_far, **measured})
            runs.progress(parts.ledger, parts.run, step=step, steps=self._steps, ends=ends)
            if self._memory.peak_process_mib:
                runs.set_measured_memory(parts.ledger, parts.run, self._memory.peak_process_mib)
            jobs.beat(parts.ledger, parts.job, done=step, total=self._steps)
        except Problem as problem:  # a full disk ends a run when a checkpoint cannot be saved, not before
            log.warning("progress: %s", problem.what)

    def doing(self, what: str) -> None:
        """What the job is at, in a few words; goes to the log alone where the ledger cannot be written now."""
        try:
            jobs.beat(self._parts.ledger, self._parts.job, doing=what)
        except Problem as problem:
            log.warning("%s (not in the ledger: %s)", what, problem.what)

    def waited(self, seconds: float) -> None:
        """Time that was no training, left out of the expected end."""
        self._began += seconds


def _named(rows: list[str]) -> str:
    return ", ".join(rows[:8]) + (f" and {len(rows) - 8} more" if len(rows) > 8 else "")
