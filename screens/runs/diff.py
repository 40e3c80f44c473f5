"""What runs differ in, side by side: the best of their metrics, settings, data, versions and machine. What is equal is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.content import Content
from textual.events import Resize

from engine.ledger import differences, evidence
from engine.ledger.differences import Difference, Topic
from engine.ledger.runs import Run
from screens.commands import Command
from screens.session import Session
from screens.widgets import figures
from screens.widgets.cells import MARGIN, Cell, Column
from screens.widgets.line import Line
from screens.widgets.page import Page
from screens.widgets.table import Table

HEADINGS: Final[dict[Topic, str]] = {
    "best": "best of the metrics",
    "setting": "settings",
    "fingerprint": "fingerprints",
    "environment": "environment",
}
MIXED: Final = "\n! Other validation rows or another objective: these losses say little of each other."
NARROWEST: Final = 40  # columns that a value may have in any case; the whole of a longer one stands below


@dataclass(frozen=True)
class Row:
    """A line of the table: a heading where it has no values."""

    name: str
    key: str
    values: tuple[str, ...] = ()


class DiffScreen(Page[tuple[Difference, ...]]):
    """One line a difference, one column a run."""

    NAME = "runs"
    TITLE = "Diff"
    VERBS = (Command("diff.back", "escape", "back", "Back to the runs.", "dismiss"),)
    CSS = """
    DiffScreen #title { height: auto; padding: 0 1; }
    DiffScreen #whole { height: auto; max-height: 8; padding: 0 1; border-top: solid $panel; }
    """

    def __init__(self, session: Session, runs: Sequence[Run]) -> None:
        super().__init__(session)
        self._runs = tuple(runs)
        self._rows: Sequence[Row] = ()

    def compose_body(self) -> ComposeResult:
        """Title, table, the selected line's whole values."""
        yield Line(Content.styled(f"reading {len(self._runs)} runs ...", "$foreground-muted"), id="title")
        yield Table[Row]((Column("", 1),), self._cells, lambda row: row.name)
        yield Line(id="whole")

    @property
    def _table(self) -> Table[Row]:
        return self.query_one(Table)

    def read(self) -> tuple[Difference, ...]:
        """A live run's metrics go on."""
        return tuple(differences.between(self.session.ledger, self._runs))

    def show(self, snapshot: tuple[Difference, ...]) -> None:
        """Title, columns as wide as what is in them, rows."""
        rows = _rows(snapshot)
        mixed = any(each.topic == "best" and evidence.mixed(self._runs, each.key) for each in snapshot)
        title = Content.styled(_summary(snapshot, len(self._runs)), "bold")
        if mixed:
            title += Content.styled(MIXED, "$text-warning")
        self.query_one("#title", Line).show(title)
        self._rows = rows
        self._lay_out()

    def _lay_out(self) -> None:
        self._table.show(self._rows, self._columns(self._rows))
        self._show_whole()

    def _columns(self, rows: Sequence[Row]) -> tuple[Column, ...]:
        names = Column("", max([8, *(cell_len(row.key) for row in rows)]))
        room = self.size.width - MARGIN - names.width - 1  # beside a scrollbar
        widest = max(NARROWEST, room // len(self._runs) - 1)
        widths = [
            max([cell_len(run.name), *(cell_len(row.values[place]) for row in rows if row.values)])
            for place, run in enumerate(self._runs)
        ]
        return (names, *(Column(run.name, min(widest, width)) for run, width in zip(self._runs, widths, strict=True)))

    def _cells(self, row: Row) -> tuple[Cell, ...]:
        """Values that are as the first run's stand back, so that those that are not are seen."""
        if not row.values:
            return ((row.key, "bold $text-accent"), *("" for _ in self._table.columns[1:]))
        first = row.values[0]
        others = ((value, "$foreground-muted") if value == first else value for value in row.values[1:])
        return ((row.key, "$foreground-muted"), first, *others)

    def _show_whole(self) -> None:
        """What does not fit into the table."""
        row = self._table.selected
        lines = (
            [
                Content.assemble((f"{run.name}  ", "$foreground-muted"), value)
                for run, value in zip(self._runs, row.values, strict=True)
            ]
            if row and row.values and any(map(_is_cut, row.values, self._table.columns[1:]))
            else []
        )
        self.query_one("#whole", Line).show(Content("\n").join(lines))

    def on_table_moved(self, _: Table.Moved) -> None:
        """Another line's values."""
        self._show_whole()

    def on_resize(self, _: Resize) -> None:
        """Other lines wrap, and values have another room."""
        self.call_after_refresh(self._lay_out)


def _is_cut(value: str, column: Column) -> bool:
    return cell_len(value) > column.width


def _summary(found: Sequence[Difference], runs: int) -> str:
    settings = sum(each.topic == "setting" for each in found)
    others = sum(each.topic in ("fingerprint", "environment") for each in found)
    if not settings and not others:
        return f"These {runs} runs have the same settings, data, versions and machine."
    differ = "1 setting differs" if settings == 1 else f"{settings or 'no'} settings differ"
    return f"{differ} between {runs} runs" + (f", and {others} of data, versions and machine" if others else "")


def _rows(found: Sequence[Difference]) -> list[Row]:
    rows: list[Row] = []
    for topic, heading in HEADINGS.items():
        of_topic = [each for each in found if each.topic == topic]
        if of_topic:
            rows.append(Row(topic, heading))
        for each in of_topic:
            values = (
                (figures.value(value) if isinstance(value, float) else plain(value) for value in each.values)
                if topic == "best"
                else map(plain, each.values)
            )
            rows.append(Row(f"{topic} {each.key}", f"  {each.key}", tuple(values)))
    return rows


def plain(value: object) -> str:
    """A setting as it would stand in a profile, without quotes."""
    if value is None or value == "":
        return figures.NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
