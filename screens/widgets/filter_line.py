"""The filter that applies, above what it applies to."""

from __future__ import annotations

from textual.content import Content
from textual.events import Resize

from engine.filtering import Filter
from screens.widgets.line import Line


class FilterLine(Line):
    """A line of its own while there is a filter, no room without one."""

    DEFAULT_CSS = """
    FilterLine { display: none; height: 1; padding: 0 1; }
    FilterLine.-applies { display: block; }
    """

    _left = Content()
    _right = ""

    def tell(self, only: Filter, passing: int, total: int, doing: str = "") -> None:
        """What was typed, and how many pass it; `doing` as long as that is not known."""
        self.set_class(bool(only.text), "-applies")
        way_out = ", esc takes it away" if total and not passing else ""
        self._left, self._right = written(only), doing or f"{passing:,} of {total:,}{way_out}"
        self._fit()

    def on_resize(self, _: Resize) -> None:
        """How many stands at the right end."""
        self._fit()

    def _fit(self) -> None:
        room = max(0, self.content_size.width - len(self._right) - 3)
        left = self._left.truncate(room, ellipsis=True) if room else self._left
        self.show(
            left.pad_right(max(0, room - left.cell_length)) + Content.styled(f"   {self._right}", "$foreground-muted")
        )


def written(only: Filter) -> Content:
    """A filter as it was typed, what is wrong in it marked, and why."""
    text = Content.styled(only.text, "$text")
    for mistake in only.mistakes:
        text = text.stylize("underline $text-warning", mistake.start, mistake.end)
    why = Content.styled(f"   {only.mistakes[0]}" if only.mistakes else "", "$text-warning")
    return Content.styled("/ ", "bold $text-accent") + text + why
