"""Text that is sent to the terminal again only when it changed."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.widget import Widget


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` columns; what is cut off leaves an ellipsis."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + "…" if width > 1 else set_cell_size(text, width)


def fitted(text: str, width: int, *, right: bool = False, keep_end: int = 0) -> str:
    """`text` in exactly `width` columns, at their right if asked for; what is not printable is a blank. Of a text that is too long as many
    letters as `keep_end` says are kept at its end.
    """
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    if keep_end and len(text) > keep_end and cell_len(text) > width:
        end = text[-keep_end:]
        text = shortened(text, width - cell_len(end)) + end
    text = shortened(text, width)
    blank = " " * (width - cell_len(text))
    return blank + text if right else text + blank


class Line(Widget):
    """A line of text, or a few when it wraps. `show` compares before it repaints; layout is done again only when the height changes."""

    DEFAULT_CSS = "Line { height: auto; width: 1fr; }"

    def __init__(self, content: Content | str = "", *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self.content = Content(content) if isinstance(content, str) else content

    def show(self, content: Content | str) -> None:
        """Show `content` from now on; plain strings are not markup."""
        new = Content(content) if isinstance(content, str) else content
        if new.is_same(self.content):
            return
        width = self.content_size.width
        grows = new.get_height({}, width) != self.content.get_height({}, width) if width else True
        self.content = new
        self.refresh(layout=grows or self.styles.is_auto_width)

    def render(self) -> Content:
        """What Textual draws."""
        return self.content
