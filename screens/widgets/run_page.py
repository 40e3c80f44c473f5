"""A page with a run in hand, and what capital letters do to it: orders to its job, resuming, evaluating.

An order that makes no sense in the run's state is not given: the last line says why.
"""

from __future__ import annotations

import math
from typing import ClassVar, Final

from textual import work

from engine.ledger import orders
from engine.ledger.orders import Verb
from engine.ledger.runs import Run
from engine.ledger.states import ENDED, LIVE, State
from screens.commands import Command
from screens.messages import EvaluateRuns
from screens.widgets.line import shortened
from screens.widgets.page import Page, Snapshot

ORDERABLE: Final = LIVE - {State.STOPPING}
ACTS_ON: Final[dict[str, frozenset[State]]] = {
    "pause": frozenset({State.RUNNING, State.PAUSED}),
    "checkpoint": frozenset({State.RUNNING, State.PAUSED}),
    "stop": ORDERABLE,
    "factor": frozenset({State.RUNNING, State.PAUSED}),
    "resume": frozenset({State.STOPPED, State.FAILED, State.LOST}),
    "queue": frozenset({State.QUEUED, State.STOPPED, State.FAILED, State.LOST}),
    "evaluate": frozenset({State.RUNNING, State.PAUSED, State.FINISHED, State.STOPPED, State.LOST, State.FAILED}),
    "export": ENDED,
    "delete": ENDED,
}
"""The states in which each action means something."""

ON_FOREIGN: Final = frozenset({"delete"})
"""What can be done to a run that another program trains or trained."""

DONE: Final[dict[Verb, str]] = {
    "pause": "will pause after this step",
    "continue": "goes on",
    "checkpoint": "will save a checkpoint after this step",
    "stop": "will stop after this step, with a checkpoint",
    "evaluate": "will be validated after this step",
}


def called(run: Run) -> str:
    """Its name, short enough for the last line."""
    return shortened(run.name, 32)


class RunPage(Page[Snapshot]):
    """`chosen` is the run that the capital letters act on, as it was last read; subclasses set it."""

    NO_RUN: ClassVar[str] = "There is no run here."
    chosen: Run | None = None

    @property
    def no_run(self) -> str:
        """Why there is no run to act on."""
        return self.NO_RUN

    def verbs(self) -> list[Command]:
        """What acts on a run stands on the last line only while it means something."""
        run = self.chosen
        return [
            verb
            for verb in super().verbs()
            if verb.action not in ACTS_ON or (run is not None and _means_something(verb.action, run))
        ]

    def _fit(self, action: str) -> Run | None:
        """The run, if `action` means something for it; else says why not."""
        run = self.chosen
        if run is None:
            self.say(self.no_run, "warning")
        elif run.source and action not in ON_FOREIGN:
            self.say(
                f"{called(run)} takes no orders: another program trains it, Workbench did not start it.", "warning"
            )
        elif run.state not in ACTS_ON[action]:
            hint = "  R resumes it." if run.state in ACTS_ON["resume"] else ""
            self.say(f"{called(run)} is {run.state}: there is nothing to {_said(action)}.{hint}", "warning")
        elif not _means_something(action, run):
            self.say(f"{called(run)} has no result to {_said(action)}.", "warning")
        else:
            return run
        return None

    async def _order(self, run: Run, verb: Verb, value: float | None = None) -> None:
        if await self.attempt(lambda: orders.give(self.session.ledger, run.id, verb, value)) is not None:
            what = f"trains at {value:g} times the scheduled rate from the next step" if verb == "rate" else DONE[verb]
            self.say(f"{called(run)} {what}.")

    @work(group="orders")
    async def action_pause(self) -> None:
        """Pause, or continue."""
        if run := self._fit("pause"):
            await self._order(run, "continue" if run.state is State.PAUSED else "pause")

    @work(group="orders")
    async def action_checkpoint(self) -> None:
        """Save a checkpoint."""
        if run := self._fit("checkpoint"):
            await self._order(run, "checkpoint")

    @work(group="orders")
    async def action_stop(self) -> None:
        """Stop, after a question."""
        if (run := self._fit("stop")) and await self.ask(
            f"Stop {called(run)} at step {run.step}{f' of {run.steps}' if run.steps else ''}? R resumes it later."
        ):
            await self._order(run, "stop")

    @work(group="orders")
    async def action_factor(self) -> None:
        """Change the learning rate."""
        if not (run := self._fit("factor")):
            return
        typed = await self.prompt("learning rate, times", "0.5")
        if typed is None:
            return
        try:
            value = float(typed)
        except ValueError:
            value = math.nan
        if 0 < value <= 100:
            await self._order(run, "rate", value)
        else:
            self.say(f"{typed!r} is not a factor: a number above 0 and at most 100 is. Nothing was changed.", "warning")

    @work(group="orders")
    async def action_evaluate(self) -> None:
        """Validate now, or evaluate with suites."""
        if run := self._fit("evaluate"):
            if run.state in LIVE:
                await self._order(run, "evaluate")
            else:
                self.post_message(EvaluateRuns(self.runs_to_evaluate(run)))

    def runs_to_evaluate(self, run: Run) -> list[str]:
        """Uids that `E` hands to Compare."""
        return [run.uid]

    def action_copy(self) -> None:
        """Its uid."""
        if self.chosen is None:
            self.say(self.no_run, "warning")
        else:
            self.app.copy_to_clipboard(self.chosen.uid)
            self.say(f"Copied {self.chosen.uid}. In tmux this needs: set -g set-clipboard on")

    @work(group="orders")
    async def action_resume(self) -> None:
        """Go on from the newest checkpoint."""
        if (run := self._fit("resume")) and await self._resumed(run, queue=False):
            self.say(f"{called(run)} goes on from its newest checkpoint.")

    async def _resumed(self, run: Run, *, queue: bool) -> bool:
        self.say(f"Resuming {called(run)} ...")

        def start() -> bool:
            from engine import launch  # costs time that opening the application should not pay

            launch.resume(self.session.ledger, run, queue=queue)
            return True

        return bool(await self.attempt(start))


def _means_something(action: str, run: Run) -> bool:
    """Besides its state: suites and exports need the result of a run that has ended, and another program takes no orders."""
    if run.source and action not in ON_FOREIGN:
        return False
    needs_result = action in ("evaluate", "export") and run.state not in LIVE
    return run.state in ACTS_ON[action] and (not needs_result or run.result_path is not None)


def _said(action: str) -> str:
    return "change the rate of" if action == "factor" else action
