"""The Data screen: rows, what is found in them, and the selected one from the bytes of its file to the labels of its loss."""

from __future__ import annotations

import time
from typing import ClassVar, Final

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.message import Message
from textual.worker import get_current_worker

from engine import profile as profiles
from engine.data import hub_source
from engine.data.finding import Finding
from engine.data.scan import Stopped
from engine.errors import Problem
from engine.ledger import runs
from screens.commands import Command
from screens.data import summary
from screens.data.opened import Looked, Opened, look, open_data, with_base
from screens.data.rows import FINDING_COLUMNS, ROW_COLUMNS, finding_cells, row_cells, search
from screens.data.views import VIEWS, Record, View, counted, drawn, look_at, plain
from screens.messages import LookAtData
from screens.session import Session
from screens.widgets.line import Line
from screens.widgets.page import Page
from screens.widgets.table import MOVES, Table

TELL: Final = 0.2  # seconds between two signs of progress
WELCOME: Final = (
    ("No data open.\n\n", "bold"),
    ("  o", "bold $text-accent"),
    "  open a file: .jsonl .json .csv .tsv .parquet, a folder, a glob, or a profile .toml\n",
    ("  3", "bold $text-accent"),
    "  configure a run\n",
    ("  ?", "bold $text-accent"),
    "  what every key does\n",
)


class RecordPane(VerticalScroll, can_focus=True):
    """The selected row's text; moves as every list does."""

    BINDINGS = [command.binding() for command in MOVES]  # noqa: RUF012 - Textual's own form

    def action_move(self, lines: int) -> None:
        """Scroll."""
        self.scroll_relative(y=lines, animate=False)

    def action_move_across(self, columns: int) -> None:
        """Another row: left the one before, right the one after."""
        if isinstance(self.screen, DataScreen):
            self.screen.table.move_to(self.screen.table.cursor + (1 if columns > 0 else -1))

    def action_move_page(self, pages: int) -> None:
        """Scroll by what is on screen."""
        self.scroll_relative(y=pages * max(1, self.size.height - 1), animate=False)

    def action_move_to_first(self) -> None:
        """To the start."""
        self.scroll_home(animate=False)

    def action_move_to_last(self) -> None:
        """To the end."""
        self.scroll_end(animate=False)


class DataScreen(Page[None]):
    """Any number of rows; only those on screen are read."""

    NAME = "data"
    VERBS: ClassVar[tuple[Command, ...]] = (
        Command("data.open", "o", "open", "Open a file, folder, glob, downloaded hub data set, or a profile.", "open"),
        Command(
            "data.record", "enter", "record", "Give the row the whole screen; in findings, show their rows.", "record"
        ),
        Command("data.view", "tab", "view", "Next view: Raw, Mapped, Rendered, Tokens, Labels.", "view(1)"),
        Command("data.view_back", "shift+tab", "view back", "The view before.", "view(-1)", show=False),
        Command("data.findings", "f", "findings", "List what was found, or go back to the rows.", "findings"),
        Command("data.find", "/", "find", "Go to the next row that holds some text.", "find"),
        Command("data.base", "b", "base", "Count and show tokens as this base model sees them.", "base"),
        Command("view.zoom", "z", "zoom", "Give the row the whole screen, or take it back.", "zoom", show=False),
        Command("data.copy", "y", "copy", "Copy the view of this row to the clipboard.", "copy", show=False),
        Command("data.back", "escape", "back", "Stop looking; leave the record, then the filter.", "back", show=False),
    )
    CSS = """
    DataScreen #body { height: 1fr; }
    DataScreen #top { height: auto; padding: 0 1; }
    DataScreen #found { max-height: 4; }
    DataScreen #middle { height: 1fr; layout: vertical; }
    DataScreen Table { height: 2fr; min-height: 4; }
    DataScreen #detail { height: 3fr; }
    DataScreen #tabs { height: 1; padding: 0 1; background: $panel; }
    DataScreen RecordPane { height: 1fr; padding: 0 1; scrollbar-size: 1 1; }
    DataScreen.-wide #middle { layout: horizontal; }
    DataScreen.-wide Table { width: 1fr; height: 100%; }
    DataScreen.-wide #detail { width: 1fr; height: 100%; border-left: solid $panel; }
    DataScreen.-record #top, DataScreen.-record Table { display: none; }
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
        self._record: Record | None = None
        self._view: View = "Tokens"
        self._doing = ""
        self._stop = False
        self._only: Finding | None = None
        self._sought = ""
        self._path = ""

    def compose_body(self) -> ComposeResult:
        """What is said of all rows, the rows, and the selected one."""
        with Container(id="body"):
            with Container(id="top"):
                yield Line(id="title")
                yield Line(id="found")
                yield Line(id="lengths")
            with Container(id="middle"):
                yield Table[int](ROW_COLUMNS, self._cells, str, id="rows")
                yield Table[Finding](FINDING_COLUMNS, finding_cells, lambda finding: finding.id, id="findings")
                with Container(id="detail"):
                    yield Line(id="tabs")
                    with RecordPane(id="pane"):
                        yield Line(id="record")
        yield Line(Content.assemble(*WELCOME), id="welcome")

    def on_mount(self) -> None:
        """Nothing is open yet. (Textual calls the page's own `on_mount` as well.)"""
        self.set_class(self._opened is None, "-empty")

    @property
    def table(self) -> Table[int]:
        """The rows."""
        return self.query_one("#rows", Table)

    @property
    def _findings(self) -> Table[Finding]:
        return self.query_one("#findings", Table)

    def _cells(self, row: int) -> tuple[str | tuple[str, str], ...]:
        assert self._opened is not None
        return row_cells(self._opened, row)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without data there is nothing to look at."""
        if action in ("record", "view", "findings", "find", "base", "zoom", "copy"):
            return self._opened is not None
        return True

    # Opening and looking

    def receive(self, message: Message) -> None:
        """Another screen has data to look at."""
        if isinstance(message, LookAtData):
            self._path = message.source
            self._load(message.source, message.profile_text, "")

    @work(group="prompt")
    async def action_open(self) -> None:
        """A path, typed."""
        typed = await self.prompt("open", self._path, suggestions=self._known_sources())
        if not typed or not typed.strip():
            return
        self._path = typed.strip()
        data = profiles.Data(source=self._path)
        if hub_source.is_hub_id(data.source) and not hub_source.copy_path(data).is_file():
            if not await self.ask(f"{data.source} is no file here. Download it from the hub?"):
                return
            self.say(f"Downloading {data.source} ...")
            if await self.attempt(lambda: hub_source.download_apart(data, quiet=True)) is None:
                return
        self._load(self._path, None, "")

    @work(group="prompt")
    async def action_base(self) -> None:
        """A base model, typed; those of runs are suggested."""
        bases = dict.fromkeys(
            str(runs.settings(self.session.ledger, run).get("model.base", "")) for run in self._runs()
        )
        opened = self._opened
        shown = opened.settings.model.base if opened and opened.renderer else next(iter(bases), "")
        typed = await self.prompt("base model", shown, suggestions=list(bases))
        if typed and typed.strip() and opened is not None:
            self._load("", None, typed.strip())

    def _runs(self) -> list[runs.Run]:
        return list(runs.listed(self.session.ledger))

    def _known_sources(self) -> list[str]:
        found = (runs.settings(self.session.ledger, run).get("data.0.source", "") for run in self._runs())
        return [source for source in dict.fromkeys(map(str, found)) if source]

    @work(thread=True, exclusive=True, group="look", exit_on_error=False)
    def _load(self, source: str, profile_text: str | None, base: str) -> None:
        """Open data (or, without a source, look at the open ones again), then look at all rows. In a thread."""
        worker = get_current_worker()
        self._stop = False
        tell = self.app.call_from_thread
        told = time.monotonic()

        def stopped() -> bool:
            return self._stop or worker.is_cancelled

        def progress(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told > TELL:
                told = time.monotonic()
                tell(self._say_progress, f"looking at rows: {done:,} of {total:,}, {done / total:.0%}   esc stops")

        try:
            opened = open_data(source, profile_text) if source or self._opened is None else self._opened
            if source:
                tell(self._show_opened, opened)
            tell(self._say_progress, "loading the tokenizer and measuring rows ...")
            seen = with_base(opened, base)
            tell(self._show_opened, seen)
            looked = look(seen, progress, stopped)
            if not stopped():
                tell(self._show_looked, looked)
        except Stopped:
            if not worker.is_cancelled:
                tell(self._say_progress, "stopped: lengths and findings are not complete. b looks again")
        except Problem as problem:
            if not worker.is_cancelled:
                tell(self._failed, problem)

    def _failed(self, problem: Problem) -> None:
        self._say_progress("")
        self.complain(problem)

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
            self._only = None
            self.remove_class("-record")
            self.table.show(())
            self.table.show(range(len(opened)))
            self.table.focus()
        self.table.refresh()
        self._view = (
            "Tokens" if opened.renderer else "Mapped" if self._view in ("Tokens", "Labels", "Rendered") else self._view
        )
        self._show_top()
        self._select()
        self.refresh_keys()

    def _show_looked(self, looked: Looked) -> None:
        self._looked, self._doing = looked, ""
        order = ("error", "warning", "info")
        self._findings.show(sorted(looked.findings, key=lambda finding: order.index(finding.severity)))
        self.table.refresh()
        self._show_top()

    # Showing

    def _show_top(self) -> None:
        opened, looked = self._opened, self._looked
        if opened is None:
            self.query_one("#welcome", Line).show(Content.assemble(*WELCOME, f"\n{self._doing}"))
            return
        width = max(20, self.size.width - 2)
        only = f"   only: {self._only.sentence}   esc shows all" if self._only else ""
        heading = summary.title(opened, looked) + Content.styled(only, "$text-warning")
        self.query_one("#title", Line).show(heading.truncate(width, ellipsis=True))
        found, lengths = self.query_one("#found", Line), self.query_one("#lengths", Line)
        if looked is None:
            found.show(Content.styled(self._doing, "$foreground-muted"))
            lengths.show("")
        else:
            found.show(summary.findings(looked, 4 if self.has_class("-wide") else 2, width))
            lengths.show(summary.histogram(looked.report.lengths, width))

    def _show_record(self) -> None:
        tabs, text = self.query_one("#tabs", Line), self.query_one("#record", Line)
        if self.has_class("-findings"):
            finding = self._findings.selected
            tabs.show("finding")
            text.show(summary.whole_finding(finding) if finding else "")
            return
        names = Content(" ─ ").join(
            Content.styled(f"[{view}]", "bold $text-accent") if view == self._view else Content.styled(view, "")
            for view in VIEWS
        )
        record = self._record
        if record is None:
            tabs.show(names)
            text.show("")
            return
        right = counted(record)
        room = (tabs.content_size.width or self.size.width - 2) - names.cell_length - right.cell_length
        tabs.show(names + Content(" " * room) + right if room > 1 else names + Content("  ") + right)
        text.show(drawn(record, self._view))

    def on_table_moved(self, event: Table.Moved) -> None:
        """Another row or finding is to be shown."""
        if event.table is self.table:
            self._select()
        else:
            self._show_record()

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
            self._record = record
            self._show_record()
            self.query_one(RecordPane).scroll_home(animate=False)

    def on_resize(self, _: Resize) -> None:
        """Other widths, other lines."""
        self.call_after_refresh(self._show_top)
        self.call_after_refresh(self._show_record)

    # What keys do

    def action_view(self, step: int) -> None:
        """Raw, Mapped, Rendered, Tokens, Labels, and around."""
        self._view = VIEWS[(VIEWS.index(self._view) + step) % len(VIEWS)]
        self._show_record()
        self.query_one(RecordPane).scroll_home(animate=False)

    def action_record(self) -> None:
        """The row with the whole screen; a finding's rows."""
        finding = self._findings.selected
        if not self.has_class("-findings"):
            self.action_zoom()
        elif finding is not None and finding.rows:
            self._only = finding
            self.remove_class("-findings")
            self.table.show([row - 1 for row in finding.rows])
            self.table.focus()
            self._show_top()
            self._select()
        else:
            self.say("This finding is about the whole file.")

    def action_zoom(self) -> None:
        """The record with the whole screen, or no longer."""
        self.toggle_class("-record")
        (self.query_one(RecordPane) if self.has_class("-record") else self.table).focus()
        self.call_after_refresh(self._show_record)

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
        (self._findings if self.has_class("-findings") else self.table).focus()
        self._show_record()

    @work(group="prompt")
    async def action_find(self) -> None:
        """The next row whose text holds what is typed, from the cursor on and around."""
        typed = await self.prompt("/", self._sought)
        opened = self._opened
        if not typed or opened is None:
            return
        self._sought = typed
        shown, start = self.table.rows, self.table.cursor + 1
        place = await self.attempt(lambda: search(opened, shown, typed, start))
        if place is None or place < 0:
            self.say(f"No row holds {typed!r}.", "warning")
        else:
            self.table.move_to(place)

    def action_copy(self) -> None:
        """To the terminal's clipboard (OSC 52)."""
        if self._record is not None:
            self.app.copy_to_clipboard(plain(self._record, self._view))
            self.say(f"Copied {self._view} of row {self._record.row + 1}.")

    def action_back(self) -> None:
        """What goes on first, then where you are."""
        if self._doing and self._looked is None and not self._doing.startswith("stopped"):
            self._stop = True
        elif self.has_class("-record"):
            self.action_zoom()
        elif self.has_class("-findings"):
            self.action_findings()
        elif self._only is not None and self._opened is not None:
            self._only = None
            self.table.show(range(len(self._opened)))
            self._show_top()
