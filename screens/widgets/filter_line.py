"""The filter that applies, above what it applies to."""

from __future__ import annotations

from textual.content import Content

from engine.filtering import Filter
from screens.widgets.line import Line


class FilterLine(Line):
    """A line of its own while there is a filter, no room without one."""

    DEFAULT_CSS = """
    FilterLine { display: none; height: 1; padding: 0 1; }
    FilterLine.-applies { display: block; }
    """

    def tell(self, only: Filter, passing: int, total: int, doing: str = "") -> None:
        """What was typed, and how many pass it; `doing` as long as that is not known."""
        self.set_class(bool(only.text), "-applies")
        self.show(written(only) + Content.styled(f"   {doing or f'{passing:,} of {total:,}'}", "$foreground-muted"))


def written(only: Filter) -> Content:
    """A filter as it was typed, what is wrong in it marked, and why."""
    text = Content.styled(only.text, "$text")
    for mistake in only.mistakes:
        text = text.stylize("underline $text-warning", mistake.start, mistake.end)
    why = Content.styled(f"   {only.mistakes[0]}" if only.mistakes else "", "$text-warning")
    return Content.styled("/ ", "bold $text-accent") + text + why
