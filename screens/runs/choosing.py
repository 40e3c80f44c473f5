"""Choosing the columns of the table of runs, their order, and what it is sorted by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from textual import work
from textual.app import ComposeResult
from textual.content import Content

from engine.filtering import Field
from screens.commands import Command
from screens.runs.columns import sorted_by, title
from screens.runs.scene import VERSUS
from screens.session import Session, View
from screens.widgets.cells import Cell, Column
from screens.widgets.line import Line
from screens.widgets.page import Page
from screens.widgets.table import Table

COMMANDS: Final = (
    Command("columns.show", "space", "show", "Show the column, or hide it.", "show_column"),
    Command("columns.later", "J", "later", "Move the column to the right.", "shift(1)"),
    Command("columns.earlier", "K", "earlier", "Move the column to the left.", "shift(-1)"),
    Command("columns.sort", "enter", "sort", "Sort by it; again turns the order round.", "sort"),
    Command("columns.find", "/", "find", "Show only columns whose name holds some text.", "find"),
    Command("columns.automatic", "a", "automatic", "Leave it to the table: what tells most.", "automatic"),
    Command("columns.back", "escape", "done", "Back to the runs.", "back"),
)
OWN: Final = Field(VERSUS, "number", "best validation loss above or below the baseline's")
LAYOUT: Final = (
    Column("", 1),
    Column("column", 26),
    Column("titled", 12),
    Column("sorted", 6),
    Column("is", 26, stretch=True),
)


@dataclass(frozen=True)
class Choice:
    """A column that there could be."""

    name: str
    shown: bool
    sorted: str
    help: str


class ChoosingScreen(Page[None]):
    """Every name that the filter knows can be a column. Each change is made at once."""

    NAME = "runs"
    TITLE = "Columns"
    VERBS = COMMANDS
    CSS = """
    ChoosingScreen #title { height: 1; padding: 0 1; }
    """

    def __init__(
        self,
        session: Session,
        view: View,
        now_shown: Sequence[str],
        fields: Iterable[Field],
        changed: Callable[[View], None],
    ) -> None:
        """`now_shown` are the columns that stand there, chosen or not: changes begin with them, and `changed` hears of each."""
        super().__init__(session)
        self._view = view
        self._now = tuple(name for name in now_shown if name != "name")
        self._help = {each.name: each.help for each in (*fields, OWN)}
        self._changed = changed
        self._find = ""

    def compose_body(self) -> ComposeResult:
        """How many are chosen, then the names."""
        yield Line(id="title")
        yield Table[Choice](LAYOUT, _cells, lambda choice: choice.name, id="choices")

    def show(self, snapshot: None) -> None:
        """Nothing here comes from the ledger."""
        self._show()
        super().show(snapshot)

    @property
    def _table(self) -> Table[Choice]:
        return self.query_one("#choices", Table)

    @property
    def _columns(self) -> tuple[str, ...]:
        return self._view.columns or self._now

    def _show(self) -> None:
        names = ["name", *self._columns, *(name for name in self._help if name not in ("name", *self._columns))]
        arrow = "↓" if self._view.descending else "↑"
        self._table.show(
            [
                Choice(
                    name,
                    name == "name" or name in self._columns,
                    arrow if name == self._view.sort else "",
                    self._help.get(name, "none of these runs has it"),
                )
                for name in names
                if self._find.casefold() in name.casefold()
            ]
        )
        said = (
            f"{len(self._columns) + 1} chosen" if self._view.columns else "automatic: what tells most, as many as fit"
        )
        words = Content.assemble(("Columns", "bold"), (f"   {said}", "$foreground-muted"))
        found = Content.styled(f"   / {self._find}", "$text-accent") if self._find else Content()
        self.query_one("#title", Line).show(words + found)

    def _look(self, view: View) -> None:
        self._view = view
        self._changed(view)
        self._show()

    def _set(self, columns: Iterable[str]) -> None:
        self._look(replace(self._view, columns=tuple(columns)))

    def action_show_column(self) -> None:
        """The name of a run is always shown: without it no line could be told from another."""
        choice = self._table.selected
        if choice is None:
            return
        if choice.name == "name":
            self.say("The name is always shown, first.", "warning")
        elif choice.shown:
            self._set(name for name in self._columns if name != choice.name)
        else:
            self._set((*self._columns, choice.name))

    def action_shift(self, by: int) -> None:
        """One place further."""
        choice, columns = self._table.selected, list(self._columns)
        if choice is None or choice.name not in columns:
            self.say("Only a column that is shown has a place.", "warning")
            return
        place = columns.index(choice.name)
        to = max(0, min(place + by, len(columns) - 1))
        columns.insert(to, columns.pop(place))
        self._set(columns)

    def action_sort(self) -> None:
        """By the column under the cursor, shown or not."""
        if (choice := self._table.selected) is not None:
            self._look(sorted_by(self._view, choice.name))

    def action_automatic(self) -> None:
        """Nothing chosen."""
        self._now = ()
        self._set(())

    @work(group="prompt", exclusive=True)
    async def action_find(self) -> None:
        """As it is typed."""

        def found(text: str) -> None:
            self._find = text.strip()
            self._show()

        before = self._find
        typed = await self.prompt("/", before, on_change=found)
        found(before if typed is None else typed)

    def action_back(self) -> None:
        """What was looked for goes first."""
        if self._find:
            self._find = ""
            self._show()
        else:
            self.dismiss()


def _cells(choice: Choice) -> tuple[Cell, ...]:
    style = "" if choice.shown else "$foreground-muted"
    return (
        ("✓", "$text-success") if choice.shown else "",
        (choice.name, style),
        (title(choice.name), "$foreground-muted"),
        (choice.sorted, "bold $text-accent"),
        (choice.help, "$foreground-muted"),
    )
