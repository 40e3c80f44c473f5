"""One line in somebody's own training script, and its run is in the ledger:

    from engine.callback import WorkbenchCallback

    trainer = Trainer(..., callbacks=[WorkbenchCallback()])  # or SFTTrainer, DPOTrainer, ...

Metrics, settings, checkpoints and how it ended are written as it trains. A run that is resumed from a checkpoint goes on as the same
run: its uid is kept in Trainer's own state. Nothing that goes wrong in here ever reaches the training; it is logged as a warning.

This module imports transformers, so nothing that a person sees may import it.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from engine import gpu, places
from engine.ending import Ending, explain
from engine.ledger import Ledger, checkpoints, events, jobs, metrics, runs
from engine.ledger.exchange import foreign, trainer
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import State

Hook = TypeVar("Hook", bound=Callable[..., None])
SOURCE: Final = "trainer"
TELL_EVERY: Final = 1.0  # seconds between writing where the run is
MEMORY_EVERY: Final = 5.0  # seconds between questions to the driver
PATIENCE: Final = 10.0  # seconds that the end of a training waits for its last metrics to be written
UNSAID: Final = Ending(State.STOPPED, "left", "The program ended before its training did.")

log = logging.getLogger(__name__)


def _harmless(hook: Hook) -> Hook:
    """The hook, with whatever it raises turned into a warning, each said once."""

    @functools.wraps(hook)
    def safe(self: WorkbenchCallback, *arguments: object, **named: object) -> None:
        try:
            hook(self, *arguments, **named)
        except Exception as error:  # noqa: BLE001 - a fault of ours must not end somebody's training
            words = f"{type(error).__name__}: {error}".partition("\n")[0]
            if words not in self._warned:
                self._warned.add(words)
                log.warning("Workbench does not log this run as it should: %s", words)

    return cast(Hook, safe)


@dataclass(frozen=True)
class _Open:
    """The run that is being logged."""

    ledger: Ledger
    run: Run
    job: Job
    writer: metrics.Writer
    folder: Path
    began: float  # monotonic
    began_at: int  # the step


class WorkbenchCallback(TrainerCallback, ExportableState):
    """Logs a Trainer's run into the ledger, from the first process of several."""

    def __init__(self, name: str = "", ledger: str | Path | None = None) -> None:
        """`name` is what the run is called (default: as the output folder), `ledger` the file (default: Workbench's own)."""
        self.uid = ""
        self._name = name
        self._path = Path(ledger) if ledger else None
        self._warned: set[str] = set()
        self._names = foreign.Names()
        self._open: _Open | None = None
        self._told = self._asked = 0.0

    def state(self) -> dict[str, Any]:
        """What Trainer keeps of this in its checkpoints."""
        arguments = {"name": self._name, "ledger": str(self._path) if self._path else None}
        return {"args": arguments, "attributes": {"uid": self.uid}}

    @_harmless
    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **known: object
    ) -> None:
        """The run is opened, or gone on with."""
        # Trainer expects to find whatever has a state, and a checkpoint from before this callback has none.
        states = cast(dict[str, object], state.stateful_callbacks)
        kept = states.setdefault(type(self).__name__, {})
        if not state.is_world_process_zero:
            return
        self._end(UNSAID)  # of a training before in this program
        ledger = Ledger.open(self._path or places.ledger_path())
        folder = Path(args.output_dir or ".").absolute()
        uid = _uid_in(kept) if state.global_step else ""
        run = _known(ledger, uid) or runs.create(
            ledger,
            name=self._name or folder.name,
            runs_folder=places.home() / "runs",
            profile="",
            settings=_settings(args, known.get("model")),
            steps=state.max_steps,
            source=SOURCE,
        )
        places.private_folder(run.folder)
        self.uid = run.uid
        job = jobs.create(ledger, "train", run=run.id, argument={"callback": str(folder)}, log=folder)
        job = jobs.sign_in(ledger, job, pid=os.getpid())
        jobs.set_state(ledger, job, State.RUNNING)
        if state.global_step:
            events.add(ledger, "resumed", f"Resumed at step {state.global_step}", run=run.id, step=state.global_step)
        writer = metrics.Writer(ledger, run.id)
        self._open = _Open(ledger, run, job, writer, folder, time.monotonic(), state.global_step)
        atexit.register(self._left)

    @_harmless
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, object] | None = None,
        **_: object,
    ) -> None:
        """Metrics, and then the memory of the GPU: what fails there takes none of them along."""
        if (now := self._open) is None:
            return
        values = {
            self._names(trainer.prefixed(key)): value
            for key, value in foreign.numbers(dict(logs or {})).items()
            if key not in trainer.NO_METRICS
        }
        if values:
            now.writer.log(state.global_step, values)
        if time.monotonic() - self._asked > MEMORY_EVERY and args.device.type == "cuda":
            self._asked = time.monotonic()
            card = gpu.first()
            if card is not None and card.own_mib:
                now.writer.log(state.global_step, {"memory/process_mib": card.own_mib})
                runs.set_measured_memory(now.ledger, now.run, card.own_mib)

    @_harmless
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Where it is."""
        if time.monotonic() - self._told > TELL_EVERY:
            self._told = time.monotonic()
            self._tell(state)

    @_harmless
    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """The checkpoint, and those that Trainer has removed since."""
        if (now := self._open) is None:
            return
        for known in checkpoints.of_run(now.ledger, now.run.id):
            if not Path(known.path).is_dir():
                checkpoints.remove(now.ledger, now.run.id, step=known.step)
        step = state.global_step
        path = now.folder / f"checkpoint-{step}"
        if path.is_dir():
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            checkpoints.add(now.ledger, now.run.id, step=step, path=str(path), size=size, validation=None, best=False)
            events.add(now.ledger, "checkpoint", f"Checkpoint at step {step}", run=now.run.id, step=step)

    @_harmless
    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Finished, also where it stopped early by itself."""
        self._tell(state)
        self._end(Ending(State.FINISHED))

    def _tell(self, state: TrainerState) -> None:
        if (now := self._open) is None:
            return
        step, steps, ends = state.global_step, state.max_steps, None
        if step > now.began_at:
            pace = (time.monotonic() - now.began) / (step - now.began_at)
            ends = time.time() + pace * (steps - step)
        runs.progress(now.ledger, now.run, step=step, steps=steps, ends=ends)
        jobs.beat(now.ledger, now.job, done=step, total=steps, doing="training")

    @_harmless
    def _left(self) -> None:
        """At the end of the program: a training that is still open was ended by what ended the program."""
        if (now := self._open) is None:
            return
        error = getattr(sys, "last_value", None)
        seen = runs.by_id(now.ledger, now.run.id)
        self._end(explain(error, step=seen.step if seen else 0) if error is not None else UNSAID)

    def _end(self, ending: Ending) -> None:
        """Write the last metrics and how it ended."""
        if (now := self._open) is None:
            return
        self._open = None
        atexit.unregister(self._left)
        now.writer.close(PATIENCE)
        jobs.set_state(now.ledger, now.job, ending.state, cause=ending.cause, message=ending.message)
        if ending.state is not State.FINISHED:
            level: events.Level = "error" if ending.state is State.FAILED else "info"
            events.add(now.ledger, str(ending.state), ending.message, run=now.run.id, level=level)
        now.ledger.close()


def _uid_in(kept: object) -> str:
    """The uid in what a checkpoint keeps of this callback."""
    attributes = kept.get("attributes") if isinstance(kept, dict) else None
    return str(attributes.get("uid", "")) if isinstance(attributes, dict) else ""


def _known(ledger: Ledger, uid: str) -> Run | None:
    """The run that a checkpoint belongs to; None where this ledger has it not, or somebody may be going on with it already."""
    found = ledger.rows("SELECT id FROM run WHERE uid = ? AND deleted IS NULL", (uid,))
    run = runs.by_id(ledger, int(found[0][0])) if found else None
    job = jobs.newest_training(ledger, run.id) if run else None
    return None if job is not None and jobs.may_be_at_work(job) else run


def _settings(args: TrainingArguments, model: object) -> dict[str, object]:
    """Trainer's arguments, the base and the adapter, by our names."""
    config = getattr(model, "config", None)
    adapters = getattr(model, "peft_config", {})
    known: dict[str, object] = dict(args.to_dict())  # type: ignore[no-untyped-call]
    known["_name_or_path"] = getattr(config, "_name_or_path", "")
    known["method.name"] = "full"
    for adapter in list(adapters.values())[:1]:
        told = {key: _listed(value) for key, value in vars(adapter).items()}
        known |= {key: told[key] for key in foreign.SETTINGS if key in told}
        known["method.name"] = str(getattr(adapter.peft_type, "value", adapter.peft_type)).lower()
    return foreign.settings(known)


def _listed(value: object) -> object:
    """PEFT keeps the names of modules as a set."""
    return sorted(value) if isinstance(value, set) else value
