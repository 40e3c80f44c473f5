"""The Runs screen: a table of all runs, what is to be said about one of them, and what can be done with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from textual import work
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.events import Resize

from engine.filtering import Filter
from engine.ledger.table import Row
from screens.commands import Command
from screens.messages import KeepView
from screens.runs import columns, detail, grouping
from screens.runs.columns import sorted_by
from screens.runs.grouping import GROUPINGS, Item
from screens.runs.looking import Together
from screens.runs.opening import OpeningPage
from screens.runs.reading import Reading, Snapshot, Wanted
from screens.runs.verbs import VERBS
from screens.session import Session, View
from screens.widgets.cells import Cell, Column
from screens.widgets.line import Line
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


class RunsScreen(OpeningPage):
    """Every run in the ledger."""

    NAME = "runs"
    VERBS = VERBS
    CSS = """
    RunsScreen #filter { height: 1; padding: 0 1; color: $text-muted; }
    RunsScreen #body { layout: vertical; height: 1fr; }
    RunsScreen #detail { height: auto; min-height: 7; padding: 0 1; border-top: solid $panel; }
    RunsScreen.-wide #body { layout: horizontal; }
    RunsScreen.-wide Table { width: 2fr; min-width: 80; height: 100%; }
    RunsScreen.-wide #detail { width: 1fr; height: 100%; border-top: none; border-left: solid $panel; }
    RunsScreen.-zoomed #detail { display: none; }
    RunsScreen #welcome { display: none; padding: 2 4; height: 1fr; }
    RunsScreen.-empty #body, RunsScreen.-empty #filter { display: none; }
    RunsScreen.-empty #welcome { display: block; }
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._reading = Reading(session.ledger)
        view = session.view if session.view.group in GROUPINGS else replace(session.view, group="")  # a file was edited
        self._asked = Wanted(view=view)
        self._values: tuple[Sequence[Row], dict[str, list[str]]] = ((), {})

    def compose_body(self) -> ComposeResult:
        """The filter, the table and what is to be said about its selected run."""
        yield Line(id="filter")
        with Container(id="body"):
            yield Table[Item](
                (Column("", 1),), self._cells, lambda line: line.key, marks=lambda line: line.uids, id="runs"
            )
            yield Line(id="detail")
        yield Line(Content.assemble(*WELCOME), id="welcome")

    def _cells(self, line: Item) -> tuple[Cell, ...]:
        return columns.cells(line, self._snapshot.shown, self._snapshot.scene)

    # Reading and showing

    def verbs(self) -> list[Command]:
        """Without runs hardly a key means anything here."""
        snapshot = self._snapshot
        return super().verbs() if snapshot.runs or snapshot.archived else []

    def read(self) -> Snapshot:
        """What passes the filter, and the selected run."""
        return self._reading.read(self.session.clock(), self._asked)

    def _ask(self, **changed: object) -> None:
        """Something else is to be seen."""
        self._asked = replace(self._asked, **changed)  # type: ignore[arg-type]
        self.reread()

    def show(self, snapshot: Snapshot) -> None:
        """Rows, filter line, detail."""
        before, self._snapshot = self._snapshot.wanted.view, snapshot
        self.set_class(not snapshot.runs and not snapshot.archived, "-empty")
        another = replace(before, columns=()) != replace(snapshot.wanted.view, columns=())
        made = [each.column for each in snapshot.shown]
        self._table.show(snapshot.lines, made, from_top=another)  # who sorts wants to see what comes first
        self._choose()
        self._show_filter()
        self._show_detail()
        if self._table.room not in (0, self._asked.room):  # a scrollbar has come or gone
            self._ask(room=self._table.room)
        if snapshot.more:
            self.reread()

    def _show_filter(self) -> None:
        snapshot, line = self._snapshot, self.query_one("#filter", Line)
        marked = f"   {len(self._table.marked)} marked" if self._table.marked else ""
        if self._asked.only:
            left = Content.assemble(
                ("/ ", "bold $text-accent"),
                (self._asked.only, "$text"),
                f"   {len(snapshot.passing):,} of {len(snapshot.runs):,}{marked}",
                (f"   {snapshot.only.mistakes[0]}" if snapshot.only.mistakes else "", "$text-warning"),
            )
        else:
            many = f"{len(snapshot.runs):,} run{'s' if len(snapshot.runs) != 1 else ''}   "
            left = Content.assemble((many, "$text"), detail.counted(dict(snapshot.states)), marked)
        right = Content.styled(self._how(), "$foreground-muted")
        width = line.content_size.width
        room = width - left.cell_length - right.cell_length
        line.show(left + Content(" " * room) + right if room > 2 else left.truncate(width, ellipsis=True))

    def _how(self) -> str:
        """How the table is sorted and grouped, where that is not as usual, and what is out of sight."""
        view = self._asked.view
        hidden = self._snapshot.archived
        seen = any(each.name == view.sort for each in self._snapshot.shown)  # its title says so
        parts = (
            f"{hidden} archived" if hidden else "",
            f"by {GROUPINGS[view.group]}" if view.group else "",
            f"sorted by {columns.title(view.sort)}" if not seen else "",
        )
        return " · ".join(filter(None, parts))

    def _show_detail(self) -> None:
        pane, snapshot = self.query_one("#detail", Line), self._snapshot
        width = pane.content_size.width or self.size.width - 2
        wide = self.has_class("-wide")
        lines = self.size.height - 3 if wide else max(4, min(8, self.size.height // 3))
        told = snapshot.detail
        if isinstance(told, Together):
            pane.show(detail.told_of_group(told, width, lines, wrap=wide))
        elif told is not None:
            pane.show(detail.told(told, snapshot.scene, width, lines, wrap=wide))
        elif self._asked.only:
            pane.show(Content.styled("No run passes the filter. esc takes it away.", "$foreground-muted"))
        elif snapshot.archived:
            pane.show(Content.styled("All runs are archived: / archived=yes shows them.", "$foreground-muted"))
        else:
            pane.show("")

    def on_table_moved(self, _: Table.Moved) -> None:
        """Another run is to be told about."""
        self._choose()
        self.refresh_keys()

    def _choose(self) -> None:
        line = self._table.selected
        self.chosen = next(iter(self.whole([line.row])), None) if line and line.row else None
        key, asked = line.key if line else None, self._asked.selected
        if key != asked:
            self._asked = replace(self._asked, selected=key)
            if asked is not None or self._table.cursor:  # else it is the first line, which has been told about
                self.reread()

    def on_table_opened(self, _: Table.Opened) -> None:
        """A double click."""
        self.action_open()

    def on_resize(self, _: Resize) -> None:
        """Other widths, other columns and lines."""
        self.call_after_refresh(self._measure)

    def _measure(self) -> None:
        if self._table.room != self._asked.room:
            self._ask(room=self._table.room)
        self._show_filter()
        self._show_detail()

    # How the table is looked at

    def _look(self, view: View) -> None:
        """In this way from now on, also when the application is started again. What then comes first is told about."""
        if shown := self._snapshot.shown:  # the key is answered before the order is known
            self._table.entitle([columns.titled(each.name, view) for each in shown])
        self._ask(view=view, selected=None)
        self.post_message(KeepView(view))

    def action_sort(self, by: int) -> None:
        """By the next column to a side."""
        names = [each.name for each in self._snapshot.shown]
        if names:
            here = names.index(self._asked.view.sort) if self._asked.view.sort in names else len(names) - 1
            to = max(0, min(here + by, len(names) - 1))
            if names[to] != self._asked.view.sort:
                self._look(sorted_by(self._asked.view, names[to]))

    def action_reverse(self) -> None:
        """The same column, the other way round."""
        self._look(sorted_by(self._asked.view, self._asked.view.sort))

    def action_group(self) -> None:
        """The next thing to put runs together by."""
        names = list(GROUPINGS)
        by = names[(names.index(self._asked.view.group) + 1) % len(names)]
        self._ask(unfolded=frozenset())
        self._look(replace(self._asked.view, group=by))
        self.say(f"Grouped by {GROUPINGS[by]}: enter opens a group, ) all." if by else "Not grouped.")

    def action_fold(self) -> None:
        """All of them open; where they are, all folded."""
        groups = {line.key for line in self._snapshot.lines if line.row is None}
        if not groups:
            self.say("There are no groups: ( puts runs together.", "warning")
        else:
            self._ask(unfolded=frozenset() if groups <= self._asked.unfolded else frozenset(groups))

    def action_columns(self) -> None:
        """Chosen on a screen of their own."""
        from screens.runs.choosing import ChoosingScreen

        snapshot = self._snapshot
        shown = [each.name for each in snapshot.shown]
        self.app.push_screen(ChoosingScreen(self.session, self._asked.view, shown, snapshot.fields, self._look))

    def action_zoom(self) -> None:
        """The table alone, or with what is said of a run."""
        self.toggle_class("-zoomed")
        self.call_after_refresh(self._measure)

    @work(group="prompt")
    async def action_filter(self) -> None:
        """Applied as it is typed; `esc` brings back what stood there."""
        await self.filter_prompt(self._asked.only, self._snapshot.fields, self._filter, self._occurring)

    def _filter(self, only: Filter) -> None:
        self._ask(only=only.text)

    def _occurring(self, name: str) -> Iterable[str]:
        """Values that runs have for a field, the most frequent first; counted once, not at every key."""
        of, known = self._values
        if of is not self._snapshot.runs:
            self._values = of, known = self._snapshot.runs, {}
        if name not in known:
            known[name] = grouping.occurring(of, self._snapshot.scene.asker(name))
        return known[name]

    # What keys do to lines and marks

    def action_open(self) -> None:
        """The run's page; a group opens or folds."""
        line = self._table.selected
        if line is None:
            self.say(self.no_run, "warning")
        elif line.row is None:
            self._ask(unfolded=self._asked.unfolded ^ {line.key})
        else:
            from screens.runs.about import AboutScreen  # these cost time that the first picture should not pay

            self.app.push_screen(AboutScreen(self.session, line.row.uid))

    def action_mark(self) -> None:
        """Mark it and go on to the next."""
        self._table.toggle_mark()
        self._show_filter()

    def action_back(self) -> None:
        """Marks first, then the filter."""
        if self._table.marked:
            self._table.unmark()
            self._show_filter()
        elif self._asked.only:
            self._ask(only="")
