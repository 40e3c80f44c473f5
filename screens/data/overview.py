"""Above the rows: what the data are, what was found in them, and how long they are."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.events import Resize

from engine.data.opened import Looked, Opened
from screens.data import summary
from screens.widgets.line import Line

WIDE: Final = 120  # columns from which there is room for more findings

WELCOME: Final = (
    ("No data open.\n\n", "bold"),
    ("  o", "bold $text-accent"),
    "  open a file (.jsonl .json .csv .tsv .parquet .txt), a folder, a glob,\n     a data set of the hub or a profile (.toml)\n",
    ("  3", "bold $text-accent"),
    "  configure a run\n",
    ("  ?", "bold $text-accent"),
    "  what every key does\n",
)


def welcome(doing: str = "") -> Content:
    """What stands in place of data, and what is being opened."""
    return Content.assemble(*WELCOME, f"\n{doing}")


class Overview(Container):
    """Three lines of words and three of figures."""

    DEFAULT_CSS = "Overview { height: auto; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__(id="top")
        self._opened: Opened | None = None
        self._looked: Looked | None = None
        self._only = ""
        self._doing = ""

    def compose(self) -> ComposeResult:
        """Title, findings, lengths."""
        yield Line(id="title")
        yield Line(id="found")
        yield Line(id="lengths")

    def show(self, opened: Opened | None, looked: Looked | None, only: str, doing: str) -> None:
        """`only` says which rows alone are listed; `doing` is said until `looked` is there."""
        self._opened, self._looked, self._only, self._doing = opened, looked, only, doing
        self._draw()

    def on_resize(self, _: Resize) -> None:
        """As wide as the screen."""
        self._draw()

    def _draw(self) -> None:
        opened, looked = self._opened, self._looked
        width = self.content_size.width
        if opened is None or not width:
            return
        title = summary.title(opened, looked)
        if self._only:
            title += Content.styled(f"   {self._only}", "$text-warning")
        self.query_one("#title", Line).show(title.truncate(width, ellipsis=True))
        found, lengths = self.query_one("#found", Line), self.query_one("#lengths", Line)
        if looked is None:
            found.show(Content.styled(self._doing, "$foreground-muted"))
            lengths.show("")
        else:
            found.show(summary.findings(looked, 4 if self.size.width >= WIDE else 2, width))
            lengths.show(summary.histogram(looked.report.lengths, width))
