"""Settings in which runs differ, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.app import ComposeResult
from textual.content import Content
from textual.screen import ModalScreen

from engine.ledger.runs import Run, different
from screens.commands import Command
from screens.widgets import figures
from screens.widgets.line import Line
from screens.widgets.table import Cell, Column, Table

Row = tuple[str, tuple[str, ...]]
BACK = Command("diff.back", "escape", "back", "Back to the runs.", "dismiss")


class DiffScreen(ModalScreen[None]):
    """One line a setting, one column a run; what is equal in all of them is left out."""

    BINDINGS = [BACK.binding()]  # noqa: RUF012 - Textual's own form
    CSS = """
    DiffScreen { background: $background; }
    DiffScreen Line { height: 1; padding: 0 1; background: $panel; }
    """

    def __init__(self, chosen: Sequence[tuple[Run, Mapping[str, object]]]) -> None:
        super().__init__()
        self._names = [run.name for run, _ in chosen]
        differing = different([settings for _, settings in chosen])
        self._rows: list[Row] = [(key, tuple(map(plain, values))) for key, values in differing.items()]

    def compose(self) -> ComposeResult:
        """Title, table, the one key."""
        differ = "1 setting differs" if len(self._rows) == 1 else f"{len(self._rows)} settings differ"
        words = f"{differ} between {len(self._names)} runs" if self._rows else "These runs have the same settings."
        yield Line(Content.styled(words, "bold"))
        width = max([12, *(len(value) for _, values in self._rows for value in values), *map(len, self._names)])
        key_width = max([8, *(len(key) for key, _ in self._rows)])
        columns = [Column("setting", key_width), *(Column(name, min(40, width)) for name in self._names)]
        yield Table[Row](columns, _cells, lambda row: row[0])
        yield Line(Content.assemble(("esc", "bold $text-accent"), " back"))

    def on_mount(self) -> None:
        """Fill the table."""
        self.query_one(Table).show(self._rows)


def _cells(row: Row) -> tuple[Cell, ...]:
    key, values = row
    return ((key, "$foreground-muted"), *values)


def plain(value: object) -> str:
    """A setting as it would stand in a profile, without quotes."""
    if value is None:
        return figures.NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
