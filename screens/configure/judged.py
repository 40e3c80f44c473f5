"""When the profile is judged: soon after every key, in a thread, and again when a GPU has another amount of memory free.

What stands on the screen stays until there is something newer, so that nothing flickers. While a value is typed, the profile is judged as
it would be with it, unless that means reading other data or asking the hub: such a value waits until it is taken.

Formulas answer first. Once keys rest, what they estimated is simulated by the session's simulator, one GPU's figures after the other's, and
takes their place; what nobody looks at any more is not simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from textual import work
from textual.message import Message
from textual.timer import Timer
from textual.worker import Worker, WorkerState, get_current_worker

from engine.errors import Problem
from engine.fit.question import Answer, Question
from engine.gpu import Gpu
from screens.configure.draft import Draft
from screens.configure.judging import Judge, Judgement
from screens.configure.page import ConfigurePage
from screens.configure.presets import Preset
from screens.session import Session

PAUSE: Final = 0.05  # seconds without a change before the profile is judged
REST: Final = 0.25  # seconds without another judgement before it is simulated
NOTICED_MIB: Final = 64.0  # of free GPU memory: less of a change is no reason to judge again


class JudgedPage(ConfigurePage):
    """`_tried` is the draft as it would be with the value that is being typed; `_wished` the key of what is being simulated."""

    class Simulated(Message):
        """The simulator has answered, or says why it does not."""

        def __init__(self, question: Question, outcome: Answer | Problem) -> None:
            super().__init__()
            self.question = question
            self.outcome = outcome

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._judge = Judge(session)
        self._tried: Draft | None = None
        self._timer: Timer | None = None
        self._judged_text = ""  # the text of which the judgement is
        self._seen: tuple[object, ...] = ()
        self._resting: Timer | None = None
        self._wished = ""
        self._no_longer: Callable[[], None] = lambda: None

    def on_mount(self) -> None:
        """Have the simulator's child ready when the first question comes. Textual calls the page's own `on_mount` too."""
        if self._judge.simulator is not None:
            self._judge.simulator.warm()

    def on_unmount(self) -> None:
        """Nobody waits for a simulation any more."""
        self._no_longer()

    def show(self, snapshot: tuple[Preset, ...]) -> None:
        """As every page; and another judgement when a GPU has another amount of memory free."""
        super().show(snapshot)
        seen = tuple((gpu.uuid, round((gpu.free_mib or 0) / NOTICED_MIB)) for gpu in self.gpus)
        if seen != self._seen:
            self._seen = seen
            self._judge_soon()

    def _change(self, draft: Draft) -> None:
        """Another draft: draw it at once, judge it soon."""
        self.draft = draft
        self._draw()
        self._judge_soon()

    def _judge_soon(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(PAUSE, self._judge_now)

    def _judge_now(self) -> None:
        draft = self._tried or self.draft
        if draft is not None and not draft.problems():
            self._ask_judge(draft, self.gpus, self._elsewhere, only_at_hand=draft is self._tried)

    @work(thread=True, exclusive=True, group="judge", exit_on_error=False)
    def _ask_judge(self, draft: Draft, gpus: tuple[Gpu, ...], elsewhere: str, *, only_at_hand: bool) -> None:
        """The estimate first; what takes longer - the hub, the disk - is added when it is known."""
        worker = get_current_worker()
        try:
            profile = draft.profile()
            if only_at_hand and not self._judge.at_hand(profile):
                return
            for found in self._judge.judge(profile, gpus, elsewhere):
                if worker.is_cancelled:
                    return
                self.app.call_from_thread(self._judged, found, draft.text)
        except Problem as problem:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._judged, Judgement(problem=problem), draft.text)

    def _judged(self, judgement: Judgement, text: str) -> None:
        self._judged_text = text
        if self._resting is not None:
            self._resting.stop()
        self._resting = self.set_timer(REST, lambda: self._simulate(judgement))
        if judgement != self._judgement:
            self._judgement = judgement
            self._draw_judgement()

    def _simulate(self, judgement: Judgement) -> None:
        """Have the next figures simulated that were not yet."""
        simulator, question = self._judge.simulator, self._judge.to_simulate(judgement)
        key = question.key if question else ""
        if simulator is None or key == self._wished:
            return
        self._no_longer()
        self._wished = key
        if question is not None:
            self._no_longer = simulator.wanted(question, self._answered)

    def _answered(self, question: Question, outcome: Answer | Problem) -> None:
        """In the simulator's thread."""
        self.post_message(self.Simulated(question, outcome))

    def on_judged_page_simulated(self, event: Simulated) -> None:
        """Judge again: with what is known now, auto may choose otherwise."""
        self._wished = ""
        self._judge.learn(event.question, event.outcome)
        self._judge_soon()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A bug in the estimate must not look like one that still works on it."""
        if event.worker.group == "judge" and event.state is WorkerState.ERROR:
            self._judged(
                Judgement(
                    problem=Problem("The estimate failed", f"{event.worker.error}.", "R starts it all the same.")
                ),
                self._judged_text,
            )
