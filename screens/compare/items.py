"""The questions behind a row of the comparison, lost ones first, with both answers in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen

from engine.evaluate.behind import Behind
from engine.evaluate.compare import ComparisonRow
from screens.commands import Command
from screens.compare.told import OUTCOMES, VERDICTS, answer
from screens.widgets.line import Line
from screens.widgets.table import Cell, Column, Table

COLUMNS: Final = (
    Column("", 6),
    Column("question", 20, stretch=True),
    Column("base", 11),
    Column("tuned", 11),
    Column("gold", 11),
)
BACK: Final = Command("items.back", "escape", "back", "Back to the comparison.", "dismiss")


class ItemsScreen(ModalScreen[None]):
    """A table of questions; under it the selected one, the answers side by side where there is room."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - Textual's own form
    BINDINGS = [BACK.binding()]  # noqa: RUF012 - Textual's own form
    CSS = """
    ItemsScreen { background: $background; layout: vertical; }
    ItemsScreen .title { height: 1; padding: 0 1; background: $panel; }
    ItemsScreen Table { height: 1fr; }
    ItemsScreen #full { height: 1fr; border-top: solid $panel; }
    ItemsScreen #full:focus { border-top: solid $primary; }
    ItemsScreen #question { padding: 0 1; max-height: 3; }
    ItemsScreen #prompt { padding: 1 1 0 1; color: $text-muted; }
    ItemsScreen #answers { layout: vertical; height: auto; }
    ItemsScreen #answers Line { padding: 0 1; margin: 1 0 0 0; }
    ItemsScreen.-wide #answers { layout: horizontal; }
    ItemsScreen.-wide #answers Line { width: 1fr; }
    """

    def __init__(self, row: ComparisonRow, questions: Sequence[Behind]) -> None:
        super().__init__()
        self._row = row
        self._questions = questions

    def compose(self) -> ComposeResult:
        """Title, table, the selected question, the one key."""
        counts = ", ".join(
            f"{sum(one.outcome == outcome for one in self._questions)} {outcome}" for outcome in ("lost", "won", "same")
        )
        words, style = VERDICTS[self._row.verdict]
        title = Content.assemble(
            (f"{self._row.title}  {self._row.run} against {self._row.against}  ", "bold"), (words, style), f"  {counts}"
        )
        yield Line(title, classes="title")
        yield Table[Behind](COLUMNS, _cells, lambda one: f"{one.item}/{one.variant}")
        with VerticalScroll(id="full"):
            yield Line(id="question")
            with Container(id="answers"):
                yield Line(id="base")
                yield Line(id="tuned")
            yield Line(id="prompt")
        keys = (("esc", "bold $text-accent"), " back  ", ("tab", "bold $text-accent"), " other pane, ↑ ↓ scroll it")
        yield Line(Content.assemble(*keys), classes="title")

    def on_mount(self) -> None:
        """Fill the table."""
        self.query_one(Table).show(self._questions)
        self.call_after_refresh(self._show)

    def on_table_moved(self, _: Table.Moved) -> None:
        """Another question is to be shown in full."""
        self._show()
        self.query_one("#full", VerticalScroll).scroll_home(animate=False)

    def on_resize(self, _: Resize) -> None:
        """Other widths."""
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        one: Behind | None = self.query_one(Table).selected
        if one is None:
            self.query_one("#question", Line).show("There are no questions behind this figure.")
            return
        self.query_one("#question", Line).show(Content.styled(" ".join(one.prompt.split()), "bold"))
        # A long question is cut above the answers, so that they stand in sight, and whole below them.
        gold = f"right  {one.gold}\n\n" if one.gold else ""
        whole = one.prompt if len(one.prompt) > 2 * self.size.width else ""
        self.query_one("#prompt", Line).show(f"{gold}{whole}".rstrip())
        for name, said in (("base", one.base), ("tuned", one.tuned)):
            line = self.query_one(f"#{name}", Line)
            line.show(
                answer(
                    name if self._row.against == "base" or name == "tuned" else self._row.against,
                    said,
                    max(20, line.content_size.width),
                )
            )


def _cells(one: Behind) -> tuple[Cell, ...]:
    return (
        OUTCOMES[one.outcome],
        " ".join(one.prompt.split()),
        _shown(one.base.read, one.base.right),
        _shown(one.tuned.read, one.tuned.right),
        (one.gold, "$foreground-muted"),
    )


def _shown(read: str, right: bool | None) -> Cell:
    if right is None:
        return read
    return f"{read} {'✓' if right else '✗'}", "$text-success" if right else "$text-error"
