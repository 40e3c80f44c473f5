"""The training loop: steps, and between them orders, validation and checkpoints.

Everything that decides how a run goes on is in `Progress`, in the weights, in the optimizer and in the random generators, all of which a
checkpoint holds. What is only told - times, memory, samples - is not.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Final, NoReturn

from engine.fit.question import Phase
from engine.ledger import jobs
from engine.ledger.orders import Order
from engine.ledger.states import State
from engine.profile import Every
from engine.steps import steps_per_epoch, total_steps
from engine.stopping import stopping
from engine.train import batches, keep, optimizer, schedule, validate
from engine.train.attempt import optimizer_step
from engine.train.backoff import Backoff, DoesNotFit
from engine.train.checkpoint import Progress, trained
from engine.train.control import Control
from engine.train.parts import Parts
from engine.train.rehearse import rehearse
from engine.train.sharded import gathered
from engine.train.tell import Teller

SAMPLE_EVERY: Final = 60.0  # seconds between sample texts
LOOK_EVERY: Final = 0.1  # seconds between looks at orders while paused
SWAPPED: Final = frozenset(
    {"cpu"}
)  # devices whose memory is the machine's, which swaps: too little of it shows by itself


class Loop:
    """One run from where its progress says to its end."""

    def __init__(self, parts: Parts, progress: Progress, control: Control, *, saved_at: int) -> None:
        """`saved_at` is the step of the checkpoint that the run goes on from, 0 for none."""
        self._parts = parts
        self._control = control
        self._stop_signal = threading.Event()
        self.progress = progress
        self._examples = parts.prepared.train.examples
        self._lengths = batches.row_lengths(parts.prepared.train)
        self._per_epoch = steps_per_epoch(self._examples, parts.profile.training)
        self.steps = total_steps(self._examples, parts.profile.training)
        self._teller = Teller(parts, progress, steps=self.steps, per_epoch=self._per_epoch)
        self._backoff = Backoff(parts, progress, self._wait)
        self._trained = list(trained(parts.loaded.model).values())
        self._saved_at = saved_at
        self._sampled = -SAMPLE_EVERY

    def train(self) -> None:
        """Run to the end.

        Raises:
            KeyboardInterrupt: it was stopped, by order or signal, after a checkpoint.
            Problem: the loss stayed not finite, or the disk is full.
        """
        self._state(State.RUNNING)
        self._teller.doing("training")
        try:
            # Of several ranks the first hears signals, some of them twice; the job's process is the one that stops at once.
            at_once = "Stopped at once. Resuming goes on from the last checkpoint."
            with stopping(at_once if self._parts.ranks.world == 1 else None) as self._stop_signal:
                self._between()
                rehearsed = self._parts.loaded.device.type in SWAPPED
                while self.progress.step < self.steps and not self.progress.stopped_early:
                    self._step()
                    if not rehearsed:
                        self._rehearse()
                        rehearsed = True
                    self._between()
        except DoesNotFit:
            self._save()  # of the last step that is whole: the run goes on from there where there is room
            raise
        finally:
            self._teller.where(now=True)

    def tell(self) -> None:
        """Say now where the run is and what memory it took."""
        self._teller.where(now=True)

    def _rehearse(self) -> None:
        parts, examples_at_most = self._parts, self._parts.profile.training.effective_batch
        self._backoff.attempt(
            "training",
            lambda layout: rehearse(
                parts.loaded,
                parts.scorer,
                parts.objective,
                parts.prepared.train,
                layout,
                examples_at_most,
                after_forward=lambda: parts.memory.lap(Phase.FORWARD),
            ),
        )
        parts.memory.lap(Phase.BACKWARD)

    def _step(self) -> None:
        """One optimizer step over an effective batch; without an update where loss or gradient is not finite."""
        parts, progress, training = self._parts, self.progress, self._parts.profile.training
        number = progress.step + 1
        tokens = parts.prepared.train
        examples = batches.examples_of_step(self._examples, number, training)
        rows = batches.rows_of(tokens, examples)
        rate = schedule.rate(number, self.steps, training) * progress.rate_factor
        optimizer.set_rate(parts.optimizer, rate)
        done = optimizer_step(parts, progress, self._trained, examples, self._backoff)
        progress.not_finite = 0 if done.updated else progress.not_finite + 1
        progress.step = number
        supervised = batches.supervised_tokens(tokens, rows)
        progress.tokens += supervised
        self._teller.step(done.loss, done.norm, rate, done.told)
        self._teller.timings(done.clock, lengths=self._lengths[rows], supervised=supervised)
        self._teller.oddities(done.loss, done.norm, [tokens.row_ids[row] for row in rows])
        self._teller.where()

    def _between(self) -> None:
        """What is due after an optimizer step: orders, a stop, validation, a checkpoint."""
        if self._obey_orders():
            self._stop("Stopped by signal")
        progress, training = self.progress, self._parts.profile.training
        if not progress.step:
            return
        if self._due(training.evaluate_every):
            self._validate()
        if self._due(training.save_every) or progress.stopped_early:
            self._save()

    def _due(self, every: Every) -> bool:
        interval = self._per_epoch if every == "epoch" else every
        return self.progress.step % interval == 0 or self.progress.step == self.steps

    def _obey_orders(self) -> bool:
        """Obey what was ordered; while paused, wait for more. Returns whether a signal says to stop."""
        paused, since = False, time.monotonic()
        while True:
            orders, stop = self._heard()
            for order in orders:
                if order.verb in ("pause", "continue"):
                    paused = order.verb == "pause"
                    self._teller.where(now=True)  # while it is paused nothing else would say the step
                    self._state(State.PAUSED if paused else State.RUNNING)
                self._obey(order)
            if not paused or stop:
                break
            time.sleep(LOOK_EVERY)
        self._teller.waited(time.monotonic() - since)
        return stop

    def _heard(self) -> tuple[list[Order], bool]:
        """Orders, and whether there was a signal; the first rank hears for all, so that all obey at the same step."""
        ranks = self._parts.ranks
        orders = self._control.due(self.progress.step) if ranks.writes else []
        return ranks.tell((orders, self._stop_signal.is_set()))

    def _obey(self, order: Order) -> None:
        words = f"{order.verb} {order.value:g}" if order.value is not None else order.verb
        self._parts.event("order", f"{words}: taken at step {self.progress.step}", step=self.progress.step)
        match order.verb:
            case "rate":
                assert order.value is not None
                self.progress.rate_factor, self.progress.order = order.value, order.id
            case "evaluate":
                self._validate()
                self.progress.order = order.id  # only now: one that was interrupted is taken again by a resumed run
            case "checkpoint":
                self._save()
            case "stop":
                self._stop("Stopped by order")
            case "pause" | "continue":
                pass  # these change only what `_obey_orders` waits for

    def _wait(self, what: str) -> None:
        """A second of waiting in the middle of a step, which only a stop ends."""
        self._teller.doing(what)
        if self._stop_signal.is_set():
            self._stop("Stopped by signal")
        if any(order.verb == "stop" for order in self._control.waiting()):
            self._obey_orders()
        time.sleep(1.0)
        self._teller.waited(1.0)
        self._teller.doing("training")  # which is so as soon as there is room

    def _stop(self, words: str) -> NoReturn:
        self._state(State.STOPPING)
        self._save()
        if self.progress.step:
            keep.publish(self._parts, self.progress, "last")
        raise KeyboardInterrupt(f"{words} at step {self.progress.step}. Resuming goes on from there.")

    def _validate(self) -> None:
        """Measure validation loss, once a step; a new best is saved at once, so that its weights are never only in memory."""
        parts, progress = self._parts, self.progress
        tokens = parts.prepared.validation
        if not tokens.row_ids or not progress.step or progress.validated == progress.step:
            return
        self._teller.doing("validating")
        try:
            measured = self._backoff.attempt(
                "validation",
                lambda layout: validate.validation_loss(
                    parts.loaded,
                    parts.scorer,
                    parts.validation_objective,
                    tokens,
                    layout,
                    stop=self._stop_signal.is_set if parts.ranks.world == 1 else lambda: False,
                    ranks=parts.ranks,
                    equally=parts.cut,
                ),
            )
            parts.memory.lap(Phase.EVALUATION)
        except validate.Interrupted:  # a resumed run validates at this step before it goes on
            self._stop("Stopped by signal")
        parts.writer.log(progress.step, {f"validation/{name}": value for name, value in measured.items()})
        loss = measured["loss"]
        progress.validated, progress.validation = progress.step, loss
        if math.isfinite(loss) and (progress.best_loss is None or loss < progress.best_loss):
            progress.best_step, progress.best_loss, progress.worse = progress.step, loss, 0
            parts.event("best", f"Validation loss {loss:.4f}, the best so far", step=progress.step)
            self._save(again=True)
        else:
            progress.worse += 1
            self._stop_early()
        self._sample()
        self._teller.doing("training")

    def _stop_early(self) -> None:
        early, progress = self._parts.profile.training.early_stopping, self.progress
        if early and progress.worse >= early.patience and progress.step < self.steps:
            progress.stopped_early = True
            text = f"Stopped early: {progress.worse} validations without a loss below that of step {progress.best_step}"
            self._parts.event("early stopping", text, step=progress.step)

    def _sample(self) -> None:
        """Now and then let the model answer one validation row, for people to read."""
        parts = self._parts
        due = parts.ranks.tell(time.monotonic() - self._sampled >= SAMPLE_EVERY)
        if not due or not (parts.ranks.writes or parts.cut):
            return
        self._sampled = time.monotonic()
        tokenizer, tokens = parts.tokenizer, parts.prepared.validation
        with gathered(parts.scorer):
            prompt, written = validate.sample(
                parts.loaded, tokens, 0, end_ids=tokenizer.eos_ids, pad_id=tokenizer.pad_id
            )
        parts.memory.lap(Phase.EVALUATION)
        if prompt:
            detail = {"row": tokens.row_ids[0], "prompt": tokenizer.decode(prompt)}
            self._parts.event("sample", tokenizer.decode(written), step=self.progress.step, detail=detail)

    def _save(self, *, again: bool = False) -> None:
        """A checkpoint of this step, if it has none; `again` where what it would hold has changed since."""
        if self.progress.step and (again or self._saved_at != self.progress.step):
            self._teller.doing("saving a checkpoint")
            keep.save(self._parts, self.progress)
            self._parts.memory.lap(Phase.SAVING)
            self._saved_at = self.progress.step
            self._teller.where(now=True)  # a lost run stands at least where its checkpoint is
            self._teller.doing("training")

    def _state(self, state: State) -> None:
        jobs.set_state(self._parts.ledger, self._parts.job, state)
