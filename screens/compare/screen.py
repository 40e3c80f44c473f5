"""The Compare screen: the verdict in words, a forest plot of differences, and the answers behind each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from textual import work
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.events import Resize
from textual.message import Message

from engine import jobs as processes
from engine.evaluate import report
from engine.evaluate.compare import ComparisonRow
from engine.evaluate.suites import from_anywhere
from engine.filtering import Filter
from engine.ledger import runs
from engine.ledger.runs import Run
from engine.ledger.states import LIVE
from screens.commands import Command
from screens.compare import asking, columns, forest, told
from screens.compare.filters import ROW_FIELDS, occurring
from screens.compare.items import ItemsScreen
from screens.compare.reading import Reading, Snapshot, row_key
from screens.messages import CompareRuns, EvaluateRuns
from screens.session import Session
from screens.widgets.cells import Cell
from screens.widgets.filter_line import FilterLine
from screens.widgets.line import Line, shortened
from screens.widgets.page import Page
from screens.widgets.table import Table

NOT_READ: Final = Snapshot()
COMPARING: Final = Content.styled("Comparing ...", "$foreground-muted")  # some seconds: statistics and many answers


class CompareScreen(Page[Snapshot]):
    """Runs against their base and each other."""

    NAME = "compare"
    VERBS = (
        Command("compare.items", "enter", "items", "Show the questions behind the row, lost ones first.", "items"),
        Command("compare.add", "a", "add", "Choose the runs: the first is what the others are read against.", "add"),
        Command("run.evaluate", "E", "evaluate", "Put suites to the runs and their base.", "evaluate"),
        Command(
            "compare.metrics", "t", "metrics", "Show every metric, or only those that carry the verdict.", "metrics"
        ),
        Command("compare.export", "x", "export", "Write the comparison as a Markdown or HTML report.", "export"),
        Command("run.stop", "S", "stop", "Stop the evaluation; what is answered stays. Asks first.", "stop"),
        Command("compare.filter", "/", "filter", "Show only rows that pass: verdict=worse suite~med n>100.", "filter"),
        Command("compare.back", "escape", "back", "Take the filter away.", "back", show=False),
    )
    CSS = """
    CompareScreen .words { height: auto; max-height: 3; padding: 0 1; }
    CompareScreen.-narrow #lines { max-height: 2; }
    CompareScreen #work { height: 1; padding: 0 1; display: none; }
    CompareScreen.-work #work { display: block; }
    CompareScreen #body { layout: vertical; height: 1fr; }
    CompareScreen #detail { height: 10; padding: 0 1; border-top: solid $panel; }
    CompareScreen.-wide #body { layout: horizontal; }
    CompareScreen.-wide Table { width: 3fr; min-width: 80; height: 100%; }
    CompareScreen.-wide #detail { width: 2fr; height: 100%; border-top: none; border-left: solid $panel; }
    CompareScreen #welcome { display: none; padding: 2 4; height: 1fr; }
    CompareScreen.-empty #body { display: none; }
    CompareScreen.-empty #welcome { display: block; }
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._reading = Reading(session.ledger)
        self._uids: tuple[str, ...] | None = None
        self._all_metrics = False
        self._selected: str | None = None
        self._snapshot = NOT_READ
        self._axis = forest.Axis(-forest.LEAST, forest.LEAST)
        self._headline = Line(COMPARING, id="headline", classes="words")
        self._lines = Line(id="lines", classes="words")
        self._work = Line(id="work")
        self._filter = Filter()
        self._table = Table[ComparisonRow](columns.columns("", 0, several=False), self._cells, row_key, id="rows")
        self._detail = Line(id="detail")

    def compose_body(self) -> ComposeResult:
        """The verdict, the evaluation at work, the rows, what is behind the selected one."""
        yield self._headline
        yield self._lines
        yield self._work
        yield FilterLine()
        with Container(id="body"):
            yield self._table
            yield self._detail
        yield Line(told.welcome(), id="welcome")

    # Reading and showing

    def read(self) -> Snapshot:
        """The comparison, and the answers behind the selected row."""
        return self._reading.read(self._uids, self._all_metrics, self._selected, self._filter)

    def show(self, snapshot: Snapshot) -> None:
        """Words, rows, detail."""
        self._snapshot = snapshot
        comparison = snapshot.comparison
        self.set_class(not snapshot.of, "-empty")
        self.query_one(FilterLine).tell(self._filter, len(snapshot.rows), snapshot.of)
        self.set_class(snapshot.work is not None, "-work")
        if snapshot.work is not None and snapshot.work_state is not None:
            self._work.show(told.work(snapshot.work, snapshot.work_state))
        self._headline.show(told.headline(comparison) if comparison else "")
        self.query_one("#welcome", Line).show(told.welcome(title=comparison is None))
        missing = [f"not compared: {one.what}" for one in comparison.missing] if comparison else []
        lines = [*comparison.lines, *missing] if comparison else []
        self._lines.show(Content.styled("\n".join(lines[: self.size.height // 12]), "$foreground-muted"))
        self._show_rows()
        if snapshot.rows and self.focused is None:  # it was hidden as long as there was nothing in it
            self.set_focus(self._table)
        self._show_detail()

    def _show_rows(self) -> None:
        rows = self._snapshot.rows
        self._axis = forest.axis(rows)
        several = columns.several(rows)
        width = self._table.room
        title = forest.ticks(self._axis, columns.plot_width(width, several=several))
        made = columns.columns(title, width, several=several)
        if self._table.columns != made:
            self._table.columns = made
            self._table.refresh()
        self._table.show(rows)

    def _cells(self, row: ComparisonRow) -> tuple[Cell, ...]:
        return columns.cells(row, self._axis, self._table.room, several=columns.several(self._snapshot.rows))

    def _show_detail(self) -> None:
        pane, row = self._detail, self._snapshot.selected
        if row is None:
            pane.show("")
            return
        width = pane.content_size.width or self.size.width - 2
        lines = pane.content_size.height or 9
        pane.show(told.row_told(row, self._snapshot.behind, width, lines))

    def on_table_moved(self, _: Table.Moved) -> None:
        """Another row is to be told about."""
        row = self._table.selected
        self._selected = row_key(row) if row else None
        self.reread()

    def on_table_opened(self, _: Table.Opened) -> None:
        """A double click."""
        self.action_items()

    def on_resize(self, _: Resize) -> None:
        """Other widths, another axis."""
        if self._snapshot is not NOT_READ:
            self.call_after_refresh(lambda: self.show(self._snapshot))

    def receive(self, message: Message) -> None:
        """Runs to compare, or to evaluate first."""
        if isinstance(message, CompareRuns | EvaluateRuns):
            self._choose(message.uids)
        if isinstance(message, EvaluateRuns):
            self.action_evaluate()

    def _choose(self, uids: Sequence[str]) -> None:
        self._uids = tuple(uids)
        self._headline.show(COMPARING)
        self.reread()

    # What keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Stopping means something only while an evaluation is at work, the rest only with something to show."""
        if action == "stop":
            return self._snapshot.work_state in LIVE
        if action in ("metrics", "export", "filter"):
            return bool(self._snapshot.of)
        if action == "items":
            return bool(self._snapshot.rows)
        return True

    def action_items(self) -> None:
        """The questions behind the selected row."""
        row = self._snapshot.selected
        if row is not None and row_key(row) == (self._selected or row_key(row)):
            self.app.push_screen(ItemsScreen(row, self._snapshot.behind))

    def action_metrics(self) -> None:
        """All metrics, or those that carry the verdict."""
        self._all_metrics = not self._all_metrics
        self.reread()

    @work(group="prompt")
    async def action_filter(self) -> None:
        """Applied as it is typed; `esc` brings back what stood there."""
        occur = occurring(self._snapshot.comparison.rows if self._snapshot.comparison else ())
        await self.filter_prompt(self._filter.text, ROW_FIELDS, self._set_filter, lambda name: occur.get(name, ()))

    def _set_filter(self, only: Filter) -> None:
        self._filter = only
        self.reread()

    def action_back(self) -> None:
        """The filter goes."""
        if self._filter.text:
            self._set_filter(Filter())

    @work(group="prompt")
    async def action_add(self) -> None:
        """The names of the runs, to add to or take from."""
        ledger = self.session.ledger
        names = [run.name for run in await self.attempt(lambda: runs.listed(ledger)) or [] if run.result_path]
        before = asking.line_of(run.name for run in self._snapshot.chosen)
        typed = await self.prompt(
            "runs",
            f"{before} " if before else "",
            suggestions=[f"{before} {asking.line_of([name])}".strip() for name in names],
        )
        if typed is None:
            return
        found = await self.attempt(lambda: [runs.find(ledger, name) for name in asking.names(typed)])
        if found:
            self._choose(list(dict.fromkeys(run.uid for run in found)))

    @work(group="prompt")
    async def action_evaluate(self) -> None:
        """Asks which suites, checks them, and starts the job."""
        chosen = await self.attempt(self._to_evaluate)
        if not chosen:
            if chosen is not None:
                self.say("There is no run with a result to evaluate. 3 configures one.", "warning")
            return
        found = await self.attempt(lambda: asking.suites(self.session.ledger, chosen[0]))
        if found is None:
            return
        known, proposed = found
        whom = chosen[0].name if len(chosen) == 1 else f"{len(chosen)} runs"
        typed = await self.prompt(f"suites for {shortened(whom, 32)}", asking.line_of(proposed), suggestions=known)
        suites = [from_anywhere(name) for name in asking.names(typed or "")]
        if not suites:
            return
        started = await self.attempt(lambda: asking.start(self.session.ledger, chosen, suites))
        if started is not None:
            self._uids = tuple(run.uid for run in chosen)
            self.say(f"Asking {len(suites)} suite{'s' if len(suites) != 1 else ''}. It goes on when you leave.")

    def _to_evaluate(self) -> list[Run]:
        """The chosen runs as they are now."""
        if self._uids is None:
            return list(self._snapshot.chosen)
        return [runs.find(self.session.ledger, uid) for uid in self._uids]

    @work(group="prompt")
    async def action_export(self) -> None:
        """A report at a path of the user's."""
        snapshot = self._snapshot
        comparison = snapshot.comparison
        if comparison is None or not comparison.rows:
            return
        proposed = Path.cwd() / f"{snapshot.chosen[0].name.replace('/', '-')}-comparison.html"
        typed = await self.prompt("report (.html or .md)", str(proposed))
        if not typed or not typed.strip():
            return
        path = Path(typed.strip()).expanduser()
        if path.exists() and not await self.ask(f"{path} exists. Write over it?"):
            return

        def write() -> bool:
            report.write(self.session.ledger, comparison, path)
            return True

        if await self.attempt(write):
            self.say(f"Written to {path}")

    @work(group="prompt")
    async def action_stop(self) -> None:
        """Stop the evaluation, after a question."""
        job = self._snapshot.work
        if job is None or not await self.ask("Stop the evaluation? What is answered stays; E goes on with it."):
            return

        def stop() -> bool:
            processes.interrupt(job)
            return True

        if await self.attempt(stop):
            self.say("The evaluation stops after this batch.")
