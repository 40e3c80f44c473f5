"""The Data screen: rows, what is found in them, and the selected one from the bytes of its file to the labels of its loss."""

from __future__ import annotations

from textual import work
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message
from textual.worker import get_current_worker

from engine.data import passing
from engine.data.finding import Finding
from engine.data.opened import Looked, Opened
from engine.data.scan import Stopped
from engine.errors import Problem
from screens.data import asking
from screens.data.looking import Step, Wanted, open_and_look
from screens.data.narrowing import Narrowing
from screens.data.overview import Overview, welcome
from screens.data.record import RecordPane, RecordText
from screens.data.row_table import RowTable
from screens.data.rows import FINDING_COLUMNS, finding_cells
from screens.data.verbs import VERBS
from screens.data.views import Record, look_at, plain
from screens.messages import LookAtData
from screens.session import Session
from screens.widgets.filter_line import FilterLine
from screens.widgets.line import Line
from screens.widgets.page import Page
from screens.widgets.table import Table


class DataScreen(Page[None]):
    """Any number of rows; only those on screen are read."""

    NAME = "data"
    VERBS = VERBS
    CSS = """
    DataScreen #body { height: 1fr; }
    DataScreen #middle { height: 1fr; layout: vertical; }
    DataScreen Table { height: 2fr; min-height: 4; }
    DataScreen #detail { height: 3fr; }
    DataScreen.-wide #middle { layout: horizontal; }
    DataScreen.-wide Table { width: 1fr; height: 100%; }
    DataScreen.-wide #detail { width: 1fr; height: 100%; border-left: solid $panel; }
    DataScreen.-record #top, DataScreen.-record FilterLine, DataScreen.-record Table { display: none; }
    DataScreen.-record #detail { border-left: none; }
    DataScreen #findings { display: none; }
    DataScreen.-findings #findings { display: block; }
    DataScreen.-findings #rows { display: none; }
    DataScreen.-record #findings { display: none; }
    DataScreen #welcome { display: none; padding: 2 4; height: 1fr; }
    DataScreen.-empty #body { display: none; }
    DataScreen.-empty #welcome { display: block; }
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._opened: Opened | None = None
        self._looked: Looked | None = None
        self._doing = ""
        self._stop = False
        self._path = ""

    def compose_body(self) -> ComposeResult:
        """What is said of all rows, the rows, and the selected one."""
        with Container(id="body"):
            yield Overview()
            yield FilterLine()
            with Container(id="middle"):
                yield RowTable()
                yield Table[Finding](FINDING_COLUMNS, finding_cells, lambda finding: finding.id, id="findings")
                yield RecordPane()
        yield Line(welcome(), id="welcome")

    def on_mount(self) -> None:
        """Nothing is open yet. (Textual calls the page's own `on_mount` as well.)"""
        self.set_class(self._opened is None, "-empty")

    @property
    def table(self) -> RowTable:
        """The rows."""
        return self.query_one(RowTable)

    @property
    def _findings(self) -> Table[Finding]:
        return self.query_one("#findings", Table)

    @property
    def _pane(self) -> RecordPane:
        return self.query_one(RecordPane)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without data there is nothing to look at."""
        if action in ("record", "view", "findings", "filter", "base", "zoom", "copy"):
            return self._opened is not None
        return True

    # Opening and looking

    def receive(self, message: Message) -> None:
        """Another screen has data to look at."""
        if isinstance(message, LookAtData):
            self._path = message.source
            self._load(Wanted(message.source, message.profile_text))

    @work(group="prompt")
    async def action_open(self) -> None:
        """A path, typed."""
        typed = await asking.source(self, self._path)
        if typed:
            self._path = typed
            if await asking.is_here(self, typed):
                self._load(Wanted(typed))

    @work(group="prompt")
    async def action_base(self) -> None:
        """A base model, typed; those of runs are suggested."""
        opened = self._opened
        typed = await asking.base(self, opened.settings.model.base if opened and opened.renderer else "")
        if typed and opened is not None:
            self._load(Wanted(base=typed))

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def _load(self, wanted: Wanted) -> None:
        worker = get_current_worker()
        self._stop = False

        def tell(step: Step) -> None:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._take, step)

        try:
            open_and_look(wanted, self._opened, tell, lambda: self._stop or worker.is_cancelled)
        except Stopped:
            tell("stopped: lengths and findings are not complete. b looks again")
        except Problem as problem:
            tell(problem)

    def _take(self, step: Step) -> None:
        """A step of the long work."""
        if isinstance(step, Opened):
            self._show_opened(step)
        elif isinstance(step, Looked):
            self._show_looked(step)
        elif isinstance(step, Problem):
            self._say_progress("")
            self.complain(step)
        else:
            self._say_progress(step)

    def _say_progress(self, text: str) -> None:
        self._doing = text
        self._show_top()
        if self._opened is not None:
            self.table.refresh()

    def _show_opened(self, opened: Opened) -> None:
        fresh = self._opened is None or self._opened.sources is not opened.sources
        self._opened, self._looked = opened, None
        self.remove_class("-empty", "-findings")
        if fresh:
            self.remove_class("-record")
            self.table.focus()
        self.table.open(opened, fresh=fresh)
        if opened.renderer is not None:
            self._pane.view = "Tokens"
        elif self._pane.view not in ("Raw", "Mapped"):
            self._pane.view = "Mapped"
        self._show_top()
        self._select()
        self.refresh_keys()

    def _show_looked(self, looked: Looked) -> None:
        self._looked, self._doing = looked, ""
        self._findings.show(looked.findings)
        self.table.learn(looked)
        self._show_top()

    # Showing

    def _show_top(self) -> None:
        if self._opened is None:
            self.query_one("#welcome", Line).show(welcome(self._doing))
        else:
            table = self.table
            only = table.narrowing.told(len(table.rows))
            self.query_one(Overview).show(self._opened, self._looked, only, self._doing)
            self.query_one(FilterLine).tell(table.narrowing.only, len(table.rows), len(self._opened), table.doing)

    def on_table_moved(self, event: Table.Moved) -> None:
        """Another row or finding is to be shown."""
        if event.table is self.table:
            self._select()
        elif self.has_class("-findings"):
            self._pane.show_finding(self._findings.selected)

    def on_row_table_narrowed(self, _: RowTable.Narrowed) -> None:
        """Other rows are listed, or it is known how many there will be."""
        self._show_top()
        self._select()

    def on_record_text_turned(self, event: RecordText.Turned) -> None:
        """Another row, while one has the whole screen."""
        self.table.move_to(self.table.cursor + event.rows)

    def on_table_opened(self, _: Table.Opened) -> None:
        """A double click."""
        self.action_record()

    def _select(self) -> None:
        row = self.table.selected
        if self._opened is not None and row is not None:
            self._look_at(self._opened, row)

    @work(thread=True, exclusive=True, group="record", exit_on_error=False)
    def _look_at(self, opened: Opened, row: int) -> None:
        """Render one row, in a thread: it may be very long."""
        record = look_at(opened, row)
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._show_row, opened, record)

    def _show_row(self, opened: Opened, record: Record) -> None:
        if opened is self._opened and record.row == self.table.selected:
            self._pane.show(record)

    # What keys do

    def action_view(self, step: int) -> None:
        """Raw, Mapped, Rendered, Tokens, Labels, and around."""
        self._pane.turn_view(step)

    def action_record(self) -> None:
        """The row with the whole screen; a finding's rows."""
        finding = self._findings.selected
        if not self.has_class("-findings"):
            self.action_zoom()
        elif finding is not None and finding.rows:
            self.remove_class("-findings")
            self.table.focus()
            self.table.narrow(Narrowing(finding=finding))
        else:
            self.say("This finding is about the whole file.")

    def action_zoom(self) -> None:
        """The record with the whole screen, or no longer."""
        self.toggle_class("-record")
        (self.query_one(RecordText) if self.has_class("-record") else self.table).focus()

    def action_findings(self) -> None:
        """Findings in place of the rows, or rows again."""
        if self._looked is None:
            self.say("Still looking at the rows." if self._doing else "Nothing was looked at yet.", "warning")
            return
        if not self._looked.findings:
            self.say("Nothing was found: no errors, no warnings.")
            return
        self.remove_class("-record")
        self.toggle_class("-findings")
        if self.has_class("-findings"):
            self._findings.focus()
            self._pane.show_finding(self._findings.selected)
        else:
            self.table.focus()
            self._pane.show(self._pane.record)

    @work(group="prompt")
    async def action_filter(self) -> None:
        """Applied as it is typed; `esc` brings back what stood there."""
        opened = self._opened
        if opened is None:
            return
        self.remove_class("-findings")
        await self.filter_prompt(
            self.table.narrowing.only.text,
            passing.fields(opened, self._looked),
            self.table.filter,
            lambda name: passing.values(self._looked, name),
        )

    def action_copy(self) -> None:
        """To the terminal's clipboard (OSC 52)."""
        record, view = self._pane.record, self._pane.view
        if record is not None:
            self.app.copy_to_clipboard(plain(record, view))
            self.say(f"Copied {view} of row {record.row + 1:,}.")

    def action_back(self) -> None:
        """What goes on first, then where you are."""
        if self._doing and self._looked is None and not self._doing.startswith("stopped"):
            self._stop = True
        elif self.has_class("-record"):
            self.action_zoom()
        elif self.has_class("-findings"):
            self.action_findings()
        elif wider := self.table.narrowing.wider:
            self.table.narrow(wider)
