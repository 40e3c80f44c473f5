"""The run's page: everything that the ledger knows of one run, part by part, and its relatives to go on to."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from rich.cells import cell_len
from textual import work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.events import Resize
from textual.widgets import Markdown

from engine.errors import Problem
from engine.ledger import labels, runs
from engine.ledger.family import Relative
from engine.ledger.runs import Run
from screens.commands import Command, on_runs
from screens.messages import ConfigureFrom, LookAtData
from screens.runs import whole
from screens.runs.detail import first_line
from screens.runs.lines import MUTED
from screens.runs.note import NoteScreen
from screens.runs.parts import PARTS, Part
from screens.runs.whole import Whole
from screens.session import Session
from screens.widgets import states
from screens.widgets.cells import Cell, Column
from screens.widgets.line import Line
from screens.widgets.reader import Reader
from screens.widgets.run_page import RunPage, called
from screens.widgets.table import Table

NO_NOTE: Final = "*No note yet: n writes one.*"
PARTS_WIDTH: Final = 21  # columns of the list
NAME: Final = 18  # columns that a relative's name has in any case


class AboutScreen(RunPage[Whole | None]):
    """One run: its parts at the left, the chosen one at the right."""

    NAME = "runs"
    TITLE = "the run's page"
    NO_RUN = "This run is no longer in the ledger."
    VERBS = (
        Command(
            "about.open", "enter", "open", "Go into the part; on a relative, open its page or look at the data.", "open"
        ),
        Command("about.next", "tab", "pane", "Go to the part's text, or back to the list of parts.", "pane"),
        Command("runs.note", "n", "note", "Write a note on the run, in Markdown.", "note"),
        Command("runs.like", "+", "like this", "Configure a run that begins with this run's profile.", "like"),
        on_runs.PAUSE,
        on_runs.STOP,
        on_runs.RESUME,
        on_runs.EVALUATE,
        on_runs.CHECKPOINT,
        on_runs.COPY,
        Command("about.back", "escape", "back", "Back to the run before, or to the table.", "back"),
    )
    CSS = """
    AboutScreen #title { height: 1; padding: 0 1; }
    AboutScreen #body { layout: horizontal; height: 1fr; }
    AboutScreen #parts { width: 21; height: 100%; }
    AboutScreen #right { width: 1fr; height: 100%; border-left: solid $panel; }
    AboutScreen #right:focus-within { border-left: solid $primary; }
    AboutScreen Reader { height: 1fr; padding: 0 1; scrollbar-size: 1 1; }
    AboutScreen Markdown { padding: 0; margin: 0; }
    AboutScreen MarkdownH1 { content-align: left middle; margin: 0 0 1 0; }
    AboutScreen #relatives { display: none; }
    AboutScreen #note { display: none; }
    """

    def __init__(self, session: Session, uid: str) -> None:
        super().__init__(session)
        self._uids = [uid]  # the last is shown; those before it are gone back to
        self._snapshot: Whole | None = None
        self._noted: str | None = None

    def compose_body(self) -> ComposeResult:
        """Title, parts, the chosen part."""
        yield Line(id="title")
        with Container(id="body"):
            yield Table[Part](
                (Column("", 11), Column("", 4, right=True)), self._part_cells, lambda part: part.name, id="parts"
            )
            with Vertical(id="right"):
                with Reader(id="text"):
                    yield Line(id="lines")
                    yield Markdown(id="note", open_links=False)
                yield Table[Relative](_relations(NAME), self._relative_cells, _key, id="relatives")

    def on_mount(self) -> None:
        """The list of parts has the focus, and keys typed ahead their run. Textual calls the page's own `on_mount` too."""
        with suppress(Problem):
            self.chosen = runs.find(self.session.ledger, self._uids[-1])
        self._parts.show(PARTS)
        self._parts.focus()

    @property
    def _parts(self) -> Table[Part]:
        return self.query_one("#parts", Table)

    @property
    def _relatives(self) -> Table[Relative]:
        return self.query_one("#relatives", Table)

    @property
    def _part(self) -> Part:
        return self._parts.selected or PARTS[0]

    # Reading and showing

    def read(self) -> Whole | None:
        """The run that is shown."""
        try:
            run = runs.find(self.session.ledger, self._uids[-1])
        except Problem:
            return None
        return whole.read(self.session.ledger, run)

    def show(self, snapshot: Whole | None) -> None:
        """Title, counts, the chosen part."""
        self._snapshot = snapshot
        self.chosen = snapshot.run if snapshot else None
        if snapshot is None:
            self.query_one("#title", Line).show(Content.styled(self.NO_RUN, "$text-warning"))
            return
        run = snapshot.run
        step = f" {run.step:,}/{run.steps:,}" if run.steps else ""
        note = f"  {first_line(run.note)}" if run.note.strip() else ""
        state = states.styled(run.state, run.cause, snapshot.place)
        title = Content.assemble((run.name, "bold $text-accent"), "  ", state, step, (note, MUTED))
        self.query_one("#title", Line).show(title)
        self._parts.show(PARTS)  # with other counts
        self._show_part()

    def _show_part(self) -> None:
        snapshot, part = self._snapshot, self._part
        if snapshot is None:
            return
        text, lines, note = self.query_one("#text"), self.query_one("#lines", Line), self.query_one("#note", Markdown)
        self._relatives.display = part.name == "lineage"
        text.display = part.name != "lineage"
        note.display = part.name == "note"
        lines.display = part.name != "note"
        if part.name == "lineage":
            longest = max((cell_len(each.name) + 2 * max(0, each.depth - 1) for each in snapshot.relatives), default=0)
            room = self.size.width - PARTS_WIDTH - 40  # for the name, beside the other columns
            self._relatives.show(snapshot.relatives, _relations(max(NAME, min(longest, room))))
        elif part.told is None:
            if self._noted != snapshot.run.note:
                self._noted = snapshot.run.note
                self._render_note(self._noted)
        else:
            width = max(20, self.size.width - PARTS_WIDTH - 4)
            told = part.told(snapshot, self.session.clock(), width)
            lines.show(told if told.plain else Content.styled(f"no {part.name}", MUTED))

    @work(group="note", exclusive=True)
    async def _render_note(self, note: str) -> None:
        await self.query_one("#note", Markdown).update(note.strip() or NO_NOTE)

    def _part_cells(self, part: Part) -> tuple[Cell, ...]:
        count = part.count(self._snapshot) if self._snapshot and part.count else None
        noted = "✓" if part.name == "note" and self._snapshot and self._snapshot.run.note else ""
        empty = count == 0 or (part.name == "note" and not noted)
        return ((part.name, MUTED if empty else ""), (noted if count is None else f"{count:,}", MUTED))

    def _relative_cells(self, relative: Relative) -> tuple[Cell, ...]:
        run = relative.run
        deeper = "  " * max(0, relative.depth - 1)
        state: Cell = states.styled(run.state, run.cause) if run else (_where(relative), MUTED)
        return (
            (relative.relation, MUTED),
            (deeper + relative.name, "bold $text-accent" if relative.relation == "run" else ""),
            state,
            (relative.what, MUTED),
        )

    def on_table_moved(self, moved: Table.Moved) -> None:
        """Another part, from its beginning."""
        if moved.table is self._parts:
            self.query_one("#text", Reader).scroll_home(animate=False)
            self._show_part()

    def on_table_opened(self, _: Table.Opened) -> None:
        """A double click."""
        self.action_open()

    def on_resize(self, _: Resize) -> None:
        """Other lines."""
        self.call_after_refresh(self._show_part)

    # What keys do

    def action_pane(self) -> None:
        """From the list into the part, or back."""
        if self._parts.has_focus:
            (self._relatives if self._part.name == "lineage" else self.query_one("#text", Reader)).focus()
        else:
            self._parts.focus()

    def action_open(self) -> None:
        """Into the part, or on to a relative."""
        relative = self._relatives.selected if self._relatives.has_focus else None
        if relative is None:
            self.action_pane()
        elif relative.run and relative.relation != "run":
            self._uids.append(relative.run.uid)
            self._parts.move_to(0)
            self._parts.focus()
            self.reread()
        elif relative.relation == "data" and self._snapshot:
            self.post_message(LookAtData(relative.name, self._snapshot.document.profile or None))
        elif relative.relation in ("parent", "child"):
            self.say(f"{relative.name} is {_where(relative)}.", "warning")

    def action_note(self) -> None:
        """Several lines, in a screen of their own; what is typed at once goes there."""
        run = self.chosen
        if run is None:
            self.say(self.NO_RUN, "warning")
        elif self.may_write():
            self.app.push_screen(NoteScreen(called(run), run.note), lambda note: self._keep_note(run, note))

    def _keep_note(self, run: Run, note: str | None) -> None:
        if note is not None:
            self.run_worker(self.attempt(lambda: labels.set_note(self.session.ledger, run, note)), group="note")

    def action_like(self) -> None:
        """On Configure."""
        if self.chosen:
            self.post_message(ConfigureFrom(run_uid=self.chosen.uid))

    def action_back(self) -> None:
        """To the run that this one was come to from, else away."""
        if len(self._uids) > 1:
            self._uids.pop()
            self._parts.move_to(0)
            self._parts.focus()
            self.reread()
        else:
            self.dismiss()


def _relations(name: int) -> tuple[Column, ...]:
    return (Column("", 6), Column("name", name), Column("state", 11), Column("", 14, stretch=True))


def _where(relative: Relative) -> str:
    """Why a run's page cannot be opened; nothing for what is no run."""
    if relative.relation not in ("parent", "child"):
        return ""
    return "in the bin" if relative.binned else "not here"


def _key(relative: Relative) -> str:
    return f"{relative.relation} {relative.run.uid if relative.run else relative.name}"
