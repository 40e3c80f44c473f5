"""What all five screens are: a first line, a body, a last line, and a ledger that is read again when it changed.

A screen overrides `compose_body`, `read` and `show`. `read` runs in a thread of the page's own and returns one frozen snapshot;
`show` puts it on the widgets, which repaint only what differs. A page that is not shown reads nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final, Generic, cast

from textual.app import ComposeResult
from textual.events import Key, ScreenResume, ScreenSuspend
from textual.message import Message
from textual.screen import Screen
from textual.worker import NoActiveWorker, get_current_worker
from typing_extensions import TypeVar

from engine.errors import Problem
from engine.filtering import Field, Filter
from engine.gpu import Gpu
from screens.commands import Command, shown_key
from screens.messages import ScreenName
from screens.session import Session
from screens.widgets.header import HeaderLine
from screens.widgets.last_line import LastLine, Level

Snapshot = TypeVar("Snapshot", default=None)
Answer = TypeVar("Answer")
TICK: Final = 0.25  # seconds between two looks at whether the ledger changed
GPUS_EVERY: Final = 1.0  # seconds between questions to the driver
STALE: Final = (
    2.0  # seconds after which it is read anyway: a process that died and the time of day leave no trace in it
)


class Page(Screen[None], Generic[Snapshot]):
    """One of the five screens.

    `NAME` is the name that messages and the App know it by, `VERBS` what its keys do. Actions that ask or prompt must be workers
    (`@work`): a question waits for keys, which an action that is being waited for would hold up.
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - Textual's own form
    NAME: ClassVar[ScreenName]
    VERBS: ClassVar[tuple[Command, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        cls.BINDINGS = [verb.binding() for verb in cls.VERBS]
        super().__init_subclass__(**options)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._header = HeaderLine(self.NAME, read_only=session.ledger.read_only)
        self._last_line = LastLine()
        self.gpus: tuple[Gpu, ...] = ()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"read-{self.NAME}")
        self._wanted = asyncio.Event()
        self._shown = asyncio.Event()
        self._version = -1
        self._read_at = 0.0
        self._gpus_at = -GPUS_EVERY

    # What a screen fills in

    def compose_body(self) -> ComposeResult:
        """The widgets between the first and the last line."""
        yield from ()

    def read(self) -> Snapshot:
        """All that is shown, read in a thread. A `Problem` is said on the last line."""
        return cast(Snapshot, None)

    def show(self, snapshot: Snapshot) -> None:
        """Put a snapshot on the widgets; called after every read, so it must cost nothing when nothing changed."""
        self.refresh_keys()

    @property
    def unsaved(self) -> str:
        """What leaving would lose, as it stands in a question; empty where nothing would be."""
        return ""

    def receive(self, message: Message) -> None:
        """Another screen asks for something (see `screens.messages`); this page is on screen now."""
        self.reread()

    def verbs(self) -> Sequence[Command]:
        """The commands for the last line, most important first. What `check_action` forbids is left out."""
        return [verb for verb in self.VERBS if verb.show and self.check_action(verb.action.partition("(")[0], ())]

    # What a screen uses

    def reread(self) -> None:
        """Read again now, because what is wanted has changed (a selection, a filter)."""
        self._wanted.set()

    def say(self, text: str, level: Level = "info") -> None:
        """A message on the last line."""
        self._last_line.say(text, level)

    def may_write(self) -> bool:
        """Whether the ledger can be written; else says that it cannot, before anything is typed that would be lost."""
        try:
            self.session.ledger.check_writable()
        except Problem as problem:
            self.complain(problem)
            return False
        return True

    def complain(self, problem: Problem) -> None:
        """What happened, why, and what to do."""
        self.say(". ".join(part.rstrip(".") for part in (problem.what, problem.why, problem.do) if part) + ".", "error")

    async def ask(self, question: str) -> bool:
        """A question on the last line, answered with y, or with n or esc. Only in a worker."""
        _only_in_a_worker()
        return await self._last_line.ask(question)

    async def prompt(
        self,
        label: str,
        value: str = "",
        *,
        suggestions: Sequence[str] = (),
        on_change: Callable[[str], None] | None = None,
    ) -> str | None:
        """A line typed on the last line; None when it was left with esc. `on_change` hears every keystroke. Only in a worker."""
        _only_in_a_worker()
        return await self._last_line.prompt(label, value, suggestions, on_change)

    async def filter_prompt(
        self,
        before: str,
        fields: Sequence[Field],
        on_change: Callable[[Filter], None],
        values: Callable[[str], Iterable[str]] = lambda _: (),
    ) -> None:
        """A filter typed on the last line. Only in a worker.

        `on_change` gets it at every key, at the end what stands; after `esc` that is `before`. Plain words are looked for in the first of
        `fields`. `values` gives, for a field's name, the values that occur, to be offered; it is asked at a key, so it must have them at hand.
        """
        _only_in_a_worker()
        await self._last_line.filter(before, fields, on_change, values)

    async def attempt(self, work: Callable[[], Answer]) -> Answer | None:
        """Do something that may block or fail - write to the ledger, start a job - in a thread; what goes wrong is said and gives None."""
        try:
            return await asyncio.to_thread(work)
        except Problem as problem:
            self.complain(problem)
        except (sqlite3.Error, OSError) as error:
            self.say(f"That did not work: {error}", "error")
        finally:
            self.reread()
        return None

    def refresh_keys(self) -> None:
        """Other keys matter now (see `verbs`)."""
        if self.is_mounted:
            bound = {active.binding.id: key for key, active in self.active_bindings.items()}
            keys = [(shown_key(bound.get(verb.id, verb.key)), verb.label) for verb in self.verbs()]
            self._last_line.show_keys(keys)

    # How it works

    def compose(self) -> ComposeResult:
        """First line, body, last line."""
        yield self._header
        yield from self.compose_body()
        yield self._last_line

    def on_mount(self) -> None:
        """Begin to follow the ledger; a first reading may take long, and the keys are known before."""
        self.call_later(self.refresh_keys)
        self.run_worker(self._follow(), group="follow", exclusive=True)

    def on_unmount(self) -> None:
        """The thread ends with the page."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def on_screen_resume(self, _: ScreenResume) -> None:
        """On screen: read at once."""
        self._shown.set()
        self.reread()

    def on_screen_suspend(self, _: ScreenSuspend) -> None:
        """Off screen: stop reading."""
        self._shown.clear()

    def on_key(self, _: Key) -> None:
        """Any key takes a message away."""
        self._last_line.unsay()

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._shown.wait()
            wanted = self._wanted.is_set()
            self._wanted.clear()
            try:
                if await loop.run_in_executor(self._thread, self._due, wanted):
                    snapshot = await loop.run_in_executor(self._thread, self.read)
                    if not self._header.is_running:  # the application closed meanwhile
                        return
                    with self.app.batch_update():
                        self._header.gpus = self.gpus
                        self.show(snapshot)
                        self.refresh_keys()
            except Problem as problem:
                self.complain(problem)
            except (sqlite3.Error, OSError) as error:
                self.say(f"The ledger cannot be read: {error}", "error")
            try:
                await asyncio.wait_for(self._wanted.wait(), TICK)
            except TimeoutError:
                pass

    def _due(self, wanted: bool) -> bool:
        version, now = self.session.ledger.version(), time.monotonic()
        due = wanted or version != self._version or now - self._read_at > STALE
        if due:
            self._version, self._read_at = version, now
            if now - self._gpus_at > GPUS_EVERY:
                self.gpus, self._gpus_at = self.session.gpus(), now
        return due


def _only_in_a_worker() -> None:
    """An action that waits for keys must not hold up the App, which delivers them."""
    try:
        get_current_worker()
    except NoActiveWorker as error:
        raise RuntimeError("ask and prompt are for workers: decorate the action with @work") from error
