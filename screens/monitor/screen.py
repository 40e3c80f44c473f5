"""The Monitor screen: one run as it trains, or as it was. Charts above, machine and events below, orders by key."""

from __future__ import annotations

from typing import Final

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.events import ScreenResume, ScreenSuspend
from textual.message import Message

from engine.filtering import Filter
from engine.ledger.events import Event
from screens.commands import Command, on_runs
from screens.messages import GoTo, WatchRun
from screens.monitor import words
from screens.monitor.absence import Left, since
from screens.monitor.filters import FIELDS, fact
from screens.monitor.reading import Reading, Snapshot
from screens.session import Session
from screens.widgets import figures
from screens.widgets.cells import Cell, Column
from screens.widgets.chart import Chart
from screens.widgets.events import MARKS, STYLES, in_a_line
from screens.widgets.filter_line import FilterLine
from screens.widgets.line import Line, shortened
from screens.widgets.run_page import RunPage
from screens.widgets.table import Table

WELCOME: Final = (
    ("No run yet.\n\n", "bold"),
    ("  3", "bold $text-accent"),
    "  configure a run and start it\n",
    ("  1", "bold $text-accent"),
    "  see all runs\n",
    ("  ?", "bold $text-accent"),
    "  what every key does",
)


class MonitorScreen(RunPage[Snapshot | None]):
    """One run."""

    NAME = "monitor"
    NO_RUN = "There is no run yet: 3 configures one."
    VERBS = (
        Command("monitor.previous", "[", "chart", "Show the chart before this one.", "chart(-1)", show=False),
        Command(
            "monitor.next",
            "]",
            "chart",
            "Show the next chart: loss, gradient norm, rate, tokens/s, memory ...",
            "chart(1)",
        ),
        Command(
            "monitor.cursor_back", "<", "cursor", "Move the chart's cursor back and read its values.", "cursor(-1)"
        ),
        Command(
            "monitor.cursor_on",
            ">",
            "cursor",
            "Move the chart's cursor on; past the end it goes away.",
            "cursor(1)",
            show=False,
        ),
        Command("view.zoom", "z", "zoom", "Give the chart the whole screen, or take it back.", "zoom"),
        on_runs.PAUSE,
        on_runs.CHECKPOINT,
        on_runs.STOP,
        on_runs.RESUME,
        on_runs.EVALUATE,
        on_runs.FACTOR,
        Command("monitor.smooth", "s", "smooth", "Draw the mean of neighbouring points.", "smooth"),
        Command("monitor.log", "|", "log", "Draw values on a logarithmic scale.", "logarithmic"),
        Command(
            "monitor.event",
            "enter",
            "whole event",
            "Show the whole text of the event under the cursor.",
            "event",
            show=False,
        ),
        Command("monitor.filter", "/", "filter", "Show only events that pass: level=warning kind~check.", "filter"),
        Command(
            "monitor.back", "escape", "back", "Leave the zoom, then the filter, else go to Runs.", "back", show=False
        ),
    )
    CSS = """
    MonitorScreen #headline, MonitorScreen #waiting, MonitorScreen #since { height: 1; padding: 0 1; }
    MonitorScreen #charts { height: 9; padding: 0 1; }
    MonitorScreen #main { width: 5fr; }
    MonitorScreen #facts { width: 24; height: 100%; padding: 1 0 0 2; }
    MonitorScreen #side { width: 3fr; }
    MonitorScreen #machine { padding: 0 1; }
    MonitorScreen #trouble { padding: 0 1; max-height: 4; }
    MonitorScreen Table { border-top: solid $panel; }
    MonitorScreen #since { color: $text-muted; }
    MonitorScreen .-nothing { display: none; }
    MonitorScreen.-wide #charts { height: 45%; }
    MonitorScreen.-zoomed #charts { height: 1fr; }
    MonitorScreen.-zoomed #side, MonitorScreen.-zoomed #facts, MonitorScreen.-zoomed #machine, MonitorScreen.-zoomed Table,
    MonitorScreen.-zoomed #since, MonitorScreen.-zoomed FilterLine { display: none; }
    MonitorScreen #body { height: 1fr; }
    MonitorScreen #welcome { display: none; padding: 2 4; height: 1fr; }
    MonitorScreen.-empty #body { display: none; }
    MonitorScreen.-empty #welcome { display: block; }
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._reading = Reading(session)
        self._uid: str | None = None
        self._snapshot: Snapshot | None = None
        self._chart = 0
        self._left: Left | None = None
        self._back_at = 0.0
        self._filter = Filter()

    def compose_body(self) -> ComposeResult:
        """From what it is doing down to what happened."""
        with Container(id="body"):
            yield Line(id="headline")
            yield Line(id="trouble", classes="-nothing")
            with Horizontal(id="charts"):
                yield Chart("loss", id="main")
                yield Line(id="facts")
                yield Chart("grad norm", id="side")
            yield Line(id="machine")
            yield FilterLine()
            yield Table[Event](
                (Column("time", 9), Column("", 1), Column("event", 20, stretch=True)),
                lambda event: _cells(event, self.session.clock()),
                lambda event: str(event.id),
            )
            yield Line(id="waiting", classes="-nothing")
            yield Line(id="since", classes="-nothing")
        yield Line(Content.assemble(*WELCOME), id="welcome")

    def receive(self, message: Message) -> None:
        """Another run is to be watched."""
        if isinstance(message, WatchRun) and message.uid != self._uid:
            self._uid = message.uid
            self._left = None
            self.query_one("#main", Chart).cursor = None
            self.reread()

    # Reading and showing

    def verbs(self) -> list[Command]:
        """Without a run no key means anything here."""
        return super().verbs() if self._snapshot is not None else []

    def read(self) -> Snapshot | None:
        """The run in hand."""
        return self._reading.read(self._uid)

    def show(self, snapshot: Snapshot | None) -> None:
        """Each part compares; what is as it was costs nothing."""
        self._snapshot = snapshot
        self.chosen = snapshot.run if snapshot else None
        self.set_class(snapshot is None, "-empty")
        if snapshot is None:
            return
        self._uid = snapshot.run.uid
        now = self.session.clock()
        self._put("headline", words.headline(snapshot, now, self.size.width - 2))
        self._put("trouble", words.trouble(snapshot))
        self._put("facts", words.facts(snapshot))
        self._put("machine", words.machine(snapshot, self.gpus, self.size.width - 2))
        self._put("waiting", words.waiting(snapshot))
        self._put("since", since(self._left, snapshot, self._back_at))
        self._show_charts(snapshot)
        self._show_events(snapshot, now)

    def _show_events(self, snapshot: Snapshot, now: float) -> None:
        """Those that pass the filter; the cursor follows the newest while it stands on it."""
        passing = [event for event in snapshot.events if self._filter.holds(fact(event, now))]
        self.query_one(FilterLine).tell(self._filter, len(passing), len(snapshot.events))
        table = self.query_one(Table)
        newest = table.cursor == 0
        table.show(passing)
        if newest:
            table.move_to(0)

    def _put(self, name: str, content: Content) -> None:
        line = self.query_one(f"#{name}", Line)
        line.set_class(not content.plain, "-nothing")
        line.show(content)

    def _show_charts(self, snapshot: Snapshot) -> None:
        charts = snapshot.charts
        self._chart %= len(charts)
        chosen = charts[self._chart]
        self.query_one("#main", Chart).show(chosen.series, chosen.title)
        beside = charts[1] if chosen is not charts[1] else charts[0]
        self.query_one("#side", Chart).show(beside.series, beside.title)

    def on_screen_suspend(self, event: ScreenSuspend) -> None:
        """Remember how things stand."""
        super().on_screen_suspend(event)
        if self._snapshot is not None:
            self._left = Left.behind(self._snapshot, self.session.clock())

    def on_screen_resume(self, event: ScreenResume) -> None:
        """Back: what has changed is worth a line if that was long ago."""
        super().on_screen_resume(event)
        self._back_at = self.session.clock()

    # What keys do

    def action_chart(self, by: int) -> None:
        """Another metric in the large chart."""
        if self._snapshot is not None:
            self._chart += by
            self.query_one("#main", Chart).cursor = None
            self._show_charts(self._snapshot)

    def action_cursor(self, cells: int) -> None:
        """Read values out."""
        self.query_one("#main", Chart).move_cursor(cells)

    def action_smooth(self) -> None:
        """Both charts."""
        for chart in self.query(Chart):
            chart.toggle_smoothing()

    def action_logarithmic(self) -> None:
        """The large chart."""
        self.query_one("#main", Chart).toggle_log()

    def action_zoom(self) -> None:
        """All of the screen for the chart."""
        self.toggle_class("-zoomed")

    @work(group="prompt")
    async def action_filter(self) -> None:
        """Applied as it is typed; `esc` brings back what stood there."""
        if self._snapshot is not None:
            occur = {"kind": sorted({event.kind for event in self._snapshot.events})}
            await self.filter_prompt(self._filter.text, FIELDS, self._set_filter, lambda name: occur.get(name, ()))

    def _set_filter(self, only: Filter) -> None:
        self._filter = only
        if self._snapshot is not None:
            self._show_events(self._snapshot, self.session.clock())

    def action_event(self) -> None:
        """The whole text."""
        event = self.query_one(Table).selected
        if isinstance(event, Event):
            prompt = shortened(" ".join(str(event.detail.get("prompt", "")).split()), 160)  # the answer is to be seen
            self.say(f"sample: {prompt} -> {event.text}" if prompt else event.said, event.level)

    def on_table_opened(self, _: Table.Opened) -> None:
        """A double click on an event."""
        self.action_event()

    def action_back(self) -> None:
        """Zoom first, then the filter, then the screen."""
        if self.has_class("-zoomed"):
            self.action_zoom()
        elif self._filter.text:
            self._set_filter(Filter())
        else:
            self.post_message(GoTo("runs"))


def _cells(event: Event, now: float) -> tuple[Cell, ...]:
    style = STYLES[event.level]
    return (
        (figures.clock_with_seconds(event.time, now), "$foreground-muted"),
        (MARKS[event.level], style),
        (in_a_line(event), style),
    )
