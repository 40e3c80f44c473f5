"""Text that is longer than its place, scrolled with the keys that move in lists."""

from __future__ import annotations

from textual.containers import VerticalScroll

from screens.widgets.moves import MOVES


class Reader(VerticalScroll, can_focus=True):
    """Text is never wider than its place: left and right are free for who is made of this."""

    BINDINGS = [command.binding() for command in MOVES if "across" not in command.action]  # noqa: RUF012

    def action_move(self, lines: int) -> None:
        """Lines down or up."""
        self.scroll_relative(y=lines, animate=False)

    def action_move_to_first(self) -> None:
        """The beginning."""
        self.scroll_home(animate=False)

    def action_move_to_last(self) -> None:
        """The end."""
        self.scroll_end(animate=False)

    def action_move_page(self, pages: int) -> None:
        """Pages down or up."""
        self.scroll_relative(y=pages * max(1, self.size.height - 1), animate=False)
