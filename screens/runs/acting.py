"""What is done to runs from the Runs screen besides orders: queue, export, delete and get back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual import work

from engine import removal
from engine.errors import Problem
from engine.ledger import Ledger, queue, runs
from engine.ledger.jobs import Job
from engine.ledger.queue import Waiting
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from engine.ledger.table import Row
from screens.messages import CompareRuns, ConfigureFrom
from screens.runs.grouping import Item
from screens.runs.reading import Snapshot
from screens.session import Session
from screens.widgets import figures
from screens.widgets.run_page import RunPage, called
from screens.widgets.table import Table

KEPT_DAYS = round(removal.KEPT / figures.DAY)


class ActingPage(RunPage[Snapshot]):
    """A page with a table of runs, of which several may be marked."""

    NO_RUN = "There is no run yet: 3 configures one."

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._snapshot = Snapshot()
        self._deleted: list[tuple[str, ...]] = []  # uids, what was deleted last at the end

    @property
    def _table(self) -> Table[Item]:
        return self.query_one("#runs", Table)

    @property
    def no_run(self) -> str:
        """Groups are no runs."""
        if self._table.selected is not None:
            return "This is a group: enter opens it, space marks its runs."
        return "No run passes the filter." if self._snapshot.runs else self.NO_RUN

    def several_rows(self) -> list[Row]:
        """The marked runs in their order, else the one under the cursor, of a group all."""
        line = self._table.selected
        uids = self._table.marked or (line.uids if line else frozenset())
        return [row for row in self._snapshot.passing if row.uid in uids] if uids else []

    def several(self) -> list[Run]:
        """The same; says so where there is none."""
        chosen = self.whole(self.several_rows())
        if not chosen:
            self.say(self.no_run, "warning")
        return chosen

    def whole(self, rows: Sequence[Row]) -> list[Run]:
        """The runs of these rows; where they cannot be read that is said, and there are none."""
        try:
            return runs.by_ids(self.session.ledger, [row.id for row in rows])
        except Problem as problem:
            self.complain(problem)
            return []

    def runs_to_evaluate(self, run: Run) -> list[str]:
        """The marked runs together."""
        return [row.uid for row in self.several_rows()] if self._table.marked else [run.uid]

    @work(group="orders")
    async def action_queue(self) -> None:
        """Another place in the queue for who waits; the end of it for who is to go on."""
        run = self._fit("queue")
        if run is None:
            return
        if run.state is not State.QUEUED:
            if await self._resumed(run, queue=True):
                self.say(f"{called(run)} waits for its turn, then goes on from its newest checkpoint.")
            return
        ledger = self.session.ledger
        typed = await self.prompt(f"place of {called(run)} in the queue, 1 is next:", "1")
        if typed is None:
            return
        if not typed.strip().isdigit() or not int(typed):
            self.say(f"{typed!r} is not a place: 1, 2, 3 ... are. Nothing was changed.", "warning")
        elif order := await self.attempt(lambda: _put(ledger, run, int(typed))):
            self.say(f"In the queue: {', '.join(each.name for each in order)}.")

    def action_like(self) -> None:
        """On Configure."""
        if run := self.chosen:
            self.post_message(ConfigureFrom(run_uid=run.uid))
        else:
            self.say(self.no_run, "warning")

    def action_compare(self) -> None:
        """On Compare."""
        if chosen := self.several():
            self.post_message(CompareRuns([run.uid for run in chosen]))

    @work(group="orders")
    async def action_export(self) -> None:
        """A process of its own writes the model; the detail says how far it is. Of marked runs what is known is written to a file."""
        if self._table.marked:
            if chosen := self.several():
                await self._export_records(chosen)
            return
        run = self._fit("export")
        if run is None:
            return
        usual = run.folder / "export" / "merged"
        typed = await self.prompt(f"export {called(run)} to", str(usual))
        if not typed or not typed.strip():
            return
        out = Path(typed.strip()).expanduser().absolute()
        self.say(f"Starting the export of {called(run)} ...")

        def start() -> Job:
            from engine import launch  # costs time that opening the application should not pay

            return launch.start_export(self.session.ledger, run, None if out == usual else out)

        if await self.attempt(start):
            self.say(f"{called(run)} is exported to {out}. It goes on without this screen.")

    async def _export_records(self, chosen: Sequence[Run]) -> None:
        typed = await self.prompt(f"what is known of {_named(chosen)} to a .csv, .parquet, .json or .db", "runs.csv")
        if not typed or not typed.strip():
            return
        to, ledger = Path(typed.strip()).expanduser().absolute(), self.session.ledger
        replace = to.is_file()
        if replace and not await self.ask(f"{to} is there already. Replace it?"):
            return

        def write() -> int:
            from engine.ledger.exchange import exporting  # costs time that opening the application should not pay

            return exporting.write(ledger, chosen, to, replace=replace)

        if size := await self.attempt(write):
            self.say(f"{_named(chosen)}: {figures.size(size)} in {to}.")

    @work(group="orders")
    async def action_delete(self) -> None:
        """Into the bin with rows and files, after saying what that is."""
        chosen = self.several()
        if not chosen or not self.may_write():
            return
        if live := [run for run in chosen if run.state in LIVE]:
            self.say(f"{called(live[0])} is {live[0].state}: S stops it first. Nothing was deleted.", "warning")
            return
        total = await self.attempt(lambda: sum(removal.size(run) for run in chosen))
        if total is None:
            return
        what = f"{_named(chosen)} with {_what_is_in(chosen)} ({figures.size(total)})"
        back = f"U brings {'it' if len(chosen) == 1 else 'them'} back within {KEPT_DAYS} days"
        if not await self.ask(f"Delete {what}? {back}."):
            return
        done: list[str] = []

        def remove() -> bool:
            for run in removal.children_first(chosen):
                removal.remove(self.session.ledger, run)
                done.append(run.uid)
            return True

        whole = await self.attempt(remove)
        if done:
            self._deleted.append(tuple(done))
        if whole:
            self._table.unmark()
            self.say(f"Deleted {_named(chosen)}. {back}.")

    @work(group="orders")
    async def action_undo(self) -> None:
        """What was deleted last comes back: from here together, else the newest in the bin."""
        ledger = self.session.ledger
        wanted = self._deleted.pop() if self._deleted else ()

        def restore() -> list[Run]:
            there = removal.binned(ledger)
            chosen = [run for run in there if run.uid in wanted] or there[:1]
            return [removal.restore(ledger, run) for run in chosen]

        back = await self.attempt(restore)
        if back:
            self.say(f"{_named(back)} {'is' if len(back) == 1 else 'are'} back.")
        elif back is not None:
            self.say("The bin is empty: there is nothing to bring back.", "warning")


def _put(ledger: Ledger, run: Run, place: int) -> list[Waiting]:
    """Give a waiting run the place that it then has in the queue; the last one if there are not so many."""
    others = [each.job.run for each in queue.waiting(ledger) if each.job.run != run.id]
    before = others[place - 1] if place <= len(others) else None
    return queue.move(ledger, run.id, "last" if before is None else before)


def _named(chosen: Sequence[Run]) -> str:
    return called(chosen[0]) if len(chosen) == 1 else f"{len(chosen)} runs"


def _what_is_in(chosen: Sequence[Run]) -> str:
    results = [run.result_kind for run in chosen if run.result_path]
    if len(chosen) == 1:
        return f"its {f'{results[0]}, ' if results else ''}checkpoints and metrics"
    return f"{f'{len(results)} of their results, ' if results else 'their '}checkpoints and metrics"
