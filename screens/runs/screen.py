"""The Runs screen: a table of all runs, what is to be said about one of them, and what can be done with them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from textual import work
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.events import Resize

from engine import removal
from engine.ledger import Ledger, labels, queue, runs
from engine.ledger.jobs import Job
from engine.ledger.queue import Waiting
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from screens.commands import Command
from screens.messages import CompareRuns, ConfigureFrom, WatchRun
from screens.runs import detail, filtering
from screens.runs.columns import COLUMNS, cells
from screens.runs.diff import DiffScreen
from screens.runs.reading import Reading, Row, Snapshot
from screens.runs.verbs import VERBS
from screens.session import Session
from screens.widgets import figures
from screens.widgets.line import Line
from screens.widgets.run_page import RunPage, called
from screens.widgets.table import Table

WELCOME: Final = (
    ("No runs yet.\n\n", "bold"),
    ("  3", "bold $text-accent"),
    "  configure a run and start it\n",
    ("  2", "bold $text-accent"),
    "  look at your data first\n",
    ("  ?", "bold $text-accent"),
    "  what every key does\n\n",
    ("From a shell, ", "$foreground-muted"),
    "workbench demo",
    (" builds a small model and a data set here, trains and compares: no GPU, no network.", "$foreground-muted"),
)


class RunsScreen(RunPage[Snapshot]):
    """Every run in the ledger."""

    NAME = "runs"
    NO_RUN = "There is no run yet: 3 configures one."
    VERBS = VERBS
    CSS = """
    RunsScreen #filter { height: 1; padding: 0 1; color: $text-muted; }
    RunsScreen #body { layout: vertical; height: 1fr; }
    RunsScreen #detail { height: auto; min-height: 7; padding: 0 1; border-top: solid $panel; }
    RunsScreen.-wide #body { layout: horizontal; }
    RunsScreen.-wide Table { width: 2fr; min-width: 80; height: 100%; }
    RunsScreen.-wide #detail { width: 1fr; height: 100%; border-top: none; border-left: solid $panel; }
    RunsScreen #welcome { display: none; padding: 2 4; height: 1fr; }
    RunsScreen.-empty #body, RunsScreen.-empty #filter { display: none; }
    RunsScreen.-empty #welcome { display: block; }
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._reading = Reading(session.ledger)
        self._filter = filtering.Filter()
        self._selected: str | None = None
        self._snapshot = Snapshot()

    def compose_body(self) -> ComposeResult:
        """The filter, the table and what is to be said about its selected run."""
        yield Line(id="filter")
        with Container(id="body"):
            yield Table[Row](COLUMNS, cells, lambda row: row.run.uid, id="runs")
            yield Line(id="detail")
        yield Line(Content.assemble(*WELCOME), id="welcome")

    @property
    def _table(self) -> Table[Row]:
        return self.query_one("#runs", Table)

    # Reading and showing

    def verbs(self) -> list[Command]:
        """Without runs no key means anything here."""
        return super().verbs() if self._snapshot.total else []

    def read(self) -> Snapshot:
        """What passes the filter, and the selected run."""
        return self._reading.read(self.session.clock(), self._filter, self._selected)

    def show(self, snapshot: Snapshot) -> None:
        """Rows, filter line, detail."""
        self._snapshot = snapshot
        self.set_class(not snapshot.total, "-empty")
        self._table.show(snapshot.rows)
        self._choose()
        self._show_filter()
        self._show_detail()

    def _show_filter(self) -> None:
        snapshot, line = self._snapshot, self.query_one("#filter", Line)
        marked = f"  {len(self._table.marked)} marked" if self._table.marked else ""
        if self._filter.text:
            words = [
                ("/ ", "bold $text-accent"),
                (self._filter.text, "$text"),
                (f"   {len(snapshot.rows)} of {snapshot.total}{marked}", ""),
            ]
            line.show(Content.assemble(*words, (f"   {self._filter.mistake}", "$text-warning")))
        else:
            many = f"{snapshot.total} run{'s' if snapshot.total != 1 else ''}"
            line.show(Content.assemble((f"{many}   ", "$text"), detail.counted(dict(snapshot.states)), marked))

    def _show_detail(self) -> None:
        pane, told = self.query_one("#detail", Line), self._snapshot.detail
        width = pane.content_size.width or self.size.width - 2
        wide = self.has_class("-wide")
        lines = self.size.height - 3 if wide else max(4, min(8, self.size.height // 3))
        if told is None:
            pane.show(
                Content.styled("No run passes the filter. esc takes it away.", "$foreground-muted")
                if self._filter.text
                else ""
            )
        else:
            pane.show(detail.told(told, width, lines, self.session.clock(), wrap=wide))

    def on_table_moved(self, _: Table.Moved) -> None:
        """Another run is to be told about."""
        self._choose()
        self.reread()
        self.refresh_keys()

    def _choose(self) -> None:
        row = self._table.selected
        self.chosen = row.run if row else None
        self._selected = row.run.uid if row else None

    def on_table_opened(self, _: Table.Opened) -> None:
        """A double click."""
        self.action_open()

    def on_resize(self, _: Resize) -> None:
        """Other widths, other lines."""
        self.call_after_refresh(self._show_detail)

    # What keys do

    def _several(self) -> list[Run]:
        return [row.run for row in self._table.marked_or_selected()]

    def action_open(self) -> None:
        """Watch it."""
        if run := self.chosen:
            self.post_message(WatchRun(run.uid))

    def action_mark(self) -> None:
        """Mark it and go on to the next."""
        self._table.toggle_mark()
        self._show_filter()

    def action_back(self) -> None:
        """Marks first, then the filter."""
        if self._table.marked:
            self._table.unmark()
            self._show_filter()
        elif self._filter.text:
            self._set_filter("")

    def _set_filter(self, text: str) -> None:
        self._filter = filtering.parse(text)
        self.reread()

    @work(group="prompt")
    async def action_filter(self) -> None:
        """Applied as it is typed; `esc` brings back what stood there."""
        before = self._filter.text
        typed = await self.prompt("/", before, on_change=self._set_filter)
        self._set_filter(before if typed is None else typed)

    @work(group="prompt")
    async def action_note(self) -> None:
        """The user's own words."""
        run = self.chosen
        if run is None:
            self.say(self.NO_RUN, "warning")
            return
        note = await self.prompt(f"note on {called(run)}", run.note)
        if note is not None:
            await self.attempt(lambda: labels.set_note(self.session.ledger, run, note.strip()))

    def action_diff(self) -> None:
        """The marked runs, or the selected one against what it is told apart from."""
        chosen = self._several()
        if len(chosen) == 1 and self._snapshot.detail and self._snapshot.detail.other:
            chosen.append(self._snapshot.detail.other)
        if len(chosen) < 2:
            self.say("A diff needs two runs: mark them with space.", "warning")
        else:
            self.app.push_screen(DiffScreen(self.session, chosen))

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

    def action_compare(self) -> None:
        """On Compare."""
        if chosen := self._several():
            self.post_message(CompareRuns([run.uid for run in chosen]))
        else:
            self.say(self.NO_RUN, "warning")

    def runs_to_evaluate(self, run: Run) -> list[str]:
        """The marked runs together."""
        return [run.uid for run in self._several()] if self._table.marked else [run.uid]

    @work(group="orders")
    async def action_export(self) -> None:
        """A process of its own writes the model; the detail says how far it is."""
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

    @work(group="orders")
    async def action_delete(self) -> None:
        """Rows and files, after saying what is lost."""
        chosen = self._several()
        if not chosen:
            self.say(self.NO_RUN, "warning")
            return
        if live := [run for run in chosen if run.state in LIVE]:
            self.say(f"{called(live[0])} is {live[0].state}: S stops it first. Nothing was deleted.", "warning")
            return
        total = await self.attempt(lambda: sum(removal.size(run) for run in chosen))
        if total is None:
            return
        names = called(chosen[0]) if len(chosen) == 1 else f"{len(chosen)} runs"
        if not await self.ask(f"Delete {names} with {_what_is_lost(chosen)} ({figures.size(total)}) for good?"):
            return

        def remove() -> int:
            for run in chosen:
                removal.remove(self.session.ledger, run)
            return len(chosen)

        if await self.attempt(remove):
            self.say(f"Deleted {names}.")


def _put(ledger: Ledger, run: Run, place: int) -> list[Waiting]:
    """Give a waiting run the place that it then has in the queue; the last one if there are not so many."""
    others = [each.job.run for each in queue.waiting(ledger) if each.job.run != run.id]
    before = others[place - 1] if place <= len(others) else None
    return queue.move(ledger, run.id, "last" if before is None else before)


def _what_is_lost(chosen: list[Run]) -> str:
    results = [run.result_kind for run in chosen if run.result_path]
    if len(chosen) == 1:
        return f"its {f'{results[0]}, ' if results else ''}checkpoints and metrics"
    return f"{f'{len(results)} of their results, ' if results else 'their '}checkpoints and metrics"
