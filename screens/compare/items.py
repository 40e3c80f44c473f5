"""The questions behind a row of the comparison, lost ones first, with both answers in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.screen import ModalScreen

from engine.evaluate.behind import Behind
from engine.evaluate.compare import ComparisonRow
from engine.filtering import Filter
from screens.commands import Command, shown_key
from screens.compare.filters import ITEM_FIELDS, item_fact
from screens.compare.told import OUTCOMES, VERDICTS, answer
from screens.widgets.cells import Cell, Column
from screens.widgets.filter_line import FilterLine
from screens.widgets.last_line import LastLine
from screens.widgets.line import Line
from screens.widgets.table import Table

COLUMNS: Final = (
    Column("", 6),
    Column("question", 20, stretch=True),
    Column("base", 11),
    Column("tuned", 11),
    Column("gold", 11),
)
VERBS: Final = (
    Command("items.back", "escape", "back", "Take the filter away, then back to the comparison.", "back"),
    Command("items.filter", "/", "filter", "Show only questions that pass: outcome=lost base~yes.", "filter"),
)


class ItemsScreen(ModalScreen[None]):
    """A table of questions; under it the selected one, the answers side by side where there is room."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide")]  # noqa: RUF012 - Textual's own form
    BINDINGS = [verb.binding() for verb in VERBS]  # noqa: RUF012 - Textual's own form
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
        self._filter = Filter()

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
        yield FilterLine()
        yield Table[Behind](COLUMNS, _cells, lambda one: f"{one.item}/{one.variant}")
        with VerticalScroll(id="full"):
            yield Line(id="question")
            with Container(id="answers"):
                yield Line(id="base")
                yield Line(id="tuned")
            yield Line(id="prompt")
        yield LastLine(helps=False)

    def on_mount(self) -> None:
        """Fill the table."""
        self.query_one(Table).show(self._questions)
        keys = [(shown_key(verb.key), verb.label) for verb in VERBS]
        self.query_one(LastLine).show_keys([*keys, ("tab", "other pane, ↑ ↓ scroll it")])
        self.call_after_refresh(self._show)

    @work(group="prompt")
    async def action_filter(self) -> None:
        """Applied as it is typed; `esc` brings back what stood there."""
        await self.query_one(LastLine).filter(self._filter.text, ITEM_FIELDS, self._set_filter, lambda _: ())

    def _set_filter(self, only: Filter) -> None:
        self._filter = only
        passing = [one for one in self._questions if only.holds(item_fact(one))]
        self.query_one(FilterLine).tell(only, len(passing), len(self._questions))
        self.query_one(Table).show(passing)

    def action_back(self) -> None:
        """The filter first, then the screen."""
        if self._filter.text:
            self._set_filter(Filter())
        else:
            self.dismiss()

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
            none = (
                "No question passes the filter." if self._filter.text else "There are no questions behind this figure."
            )
            for name, text in (("question", none), ("prompt", ""), ("base", ""), ("tuned", "")):
                self.query_one(f"#{name}", Line).show(text)
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
