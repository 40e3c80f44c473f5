"""The demonstration inside the application: Monitor follows each run as it starts, Compare ends it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

from textual import work
from textual.worker import get_current_worker

from engine.errors import Problem
from engine.ledger import Ledger, jobs
from engine.ledger.runs import Run
from screens.messages import CompareRuns, WatchRun
from screens.session import Session
from screens.widgets.page import Page
from workbench import settings as user_settings
from workbench.app import WorkbenchApp
from workbench.demo import story
from workbench.demo.story import Stage

LEFT: Final = 130
TELL_EVERY: Final = 2.0  # seconds


class DemoApp(WorkbenchApp):
    """The application, with the demonstration going on in a thread. Leaving it leaves the job at work to itself."""

    problem: Problem | None = None
    at: Stage | None = None
    over = False

    async def on_mount(self) -> None:
        """Show what is about to happen, and begin."""
        await self.action_go("monitor")
        self.tell_story()

    @work(thread=True, group="demo", exclusive=True, exit_on_error=False)
    def tell_story(self) -> None:
        """Go through the stages, each followed on Monitor unless the user went to look at something else."""
        ledger, runs_folder = self.session.ledger, self.session.runs_folder
        self.call_from_thread(self._say, "Making tokenizer, data and random weights ...")
        try:
            for self.at in story.stages(ledger, runs_folder):
                self.call_from_thread(self._follow, self.at)
                if not self._wait(self.at):
                    return
        except Problem as problem:
            self.problem = problem
            self.call_from_thread(self._complain, problem)
            return
        if self.at is not None:
            self.over = True
            self.call_from_thread(self._compare, self.at.run)

    def _wait(self, stage: Stage) -> bool:
        """Wait for the stage's job; False when the application was left first. Monitor shows training; an evaluation is told of here."""
        worker = get_current_worker()
        told = time.monotonic()
        while not story.ended(self.session.ledger, stage):
            if worker.is_cancelled:
                return False
            if stage.job.kind == "evaluate" and time.monotonic() - told > TELL_EVERY:
                told = time.monotonic()
                job = jobs.get(self.session.ledger, stage.job.uid)
                share = f" {job.done}/{job.total}" if job.total else ""
                self.call_from_thread(self._say, f"{stage.title}: {job.doing}{share}")
            time.sleep(story.POLL_EVERY)
        return True

    def _follow(self, stage: Stage) -> None:
        if self.current_mode == "monitor":
            self.post_message(WatchRun(stage.run.uid))
        self.call_later(self._say, f"{stage.title}: {stage.run.name}")

    def _compare(self, run: Run) -> None:
        if self.current_mode == "monitor":
            self.post_message(CompareRuns([run.uid]))
        else:
            self._say(f"The demonstration is over: mark {run.name} on 1 and compare on 5")

    def _say(self, text: str) -> None:
        if isinstance(self.screen, Page):
            self.screen.say(text)

    def _complain(self, problem: Problem) -> None:
        if isinstance(self.screen, Page):
            self.screen.complain(problem)


def run(ledger_path: Path) -> int:
    """Open the application on the demonstration; the exit code.

    Raises:
        Problem: the ledger or the settings cannot be opened; a job of the demonstration did not finish.
    """
    settings = user_settings.load()
    ledger = Ledger.open(ledger_path)
    try:
        # On the very first start nobody is asked where runs go: this one is under way already.
        app = DemoApp(Session(ledger, settings.runs_folder), settings if settings.seen_places else None)
        app.run()
        if app.problem:
            raise app.problem
        if not app.over and app.at is not None:
            print(f"{app.at.run.name} goes on by itself. Go on with the demonstration: workbench demo", file=sys.stderr)
            return LEFT
        return app.return_code or 0
    finally:
        ledger.close()
