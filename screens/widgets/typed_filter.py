"""A filter while it is typed: what may come next, or where a mistake is, on one line above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from textual.content import Content

from engine.filtering import Completions, Field, Mistake, completions, parse
from screens.widgets.line import shortened

MUTED = "$foreground-muted"


@dataclass(frozen=True)
class Typing:
    """The text, what may come next at the cursor, and the mistake that is to be shown, if any."""

    text: str
    found: Completions
    mistake: Mistake | None

    @property
    def taken(self) -> tuple[str, int] | None:
        """The text with the first choice, or with what was meant in place of the mistake, and the cursor's place in it; None for neither."""
        if self.mistake is not None:
            wrong, meant = self.mistake, self.mistake.suggestion
            if not meant:
                return None
            return self.text[: wrong.start] + meant + self.text[wrong.end :], wrong.start + len(meant)
        if not self.found.choices:
            return None
        choice = self.found.choices[0]
        return self.found.applied(self.text, choice), self.found.start + len(choice)

    def told(self, left: int, width: int) -> Content:
        """One line of `width` columns; the text begins at column `left` of it, which is negative where it is scrolled."""
        if self.mistake is not None:
            return _pointing(self.text, self.mistake, left, width)
        if not self.found.choices:
            return Content.styled(shortened(self.found.hint, width), MUTED)
        first, *others = self.found.choices
        line = Content.assemble(("tab ", "bold $text-accent"), (first, "bold"))
        for other in others:
            if line.cell_length + 2 + cell_len(other) > width - 2:
                return line + Content.styled(" …", MUTED)
            line += Content.styled(f"  {other}", MUTED)
        hint = f"   · {self.found.hint}"
        return line + Content.styled(hint, MUTED) if line.cell_length + cell_len(hint) <= width else line


def looked_at(text: str, cursor: int, fields: Sequence[Field], values: Callable[[str], Iterable[str]]) -> Typing:
    """The text as it stands. What is still being typed at the cursor is no mistake as long as it may become something."""
    found = completions(text, cursor, fields, values)
    mistakes = parse(text, fields).mistakes
    becoming = bool(found.choices) or (bool(found.hint) and found.start == found.end)
    shown = [each for each in mistakes if not (becoming and each.start <= cursor <= each.end)]
    return Typing(text, found, shown[0] if shown else None)


def _pointing(text: str, mistake: Mistake, left: int, width: int) -> Content:
    """Carets over what is wrong, and the words on the side where there is room for them."""
    start = min(max(0, left + cell_len(text[: mistake.start])), width - 1)
    end = min(max(start + 1, left + cell_len(text[: mistake.end])), width)
    carets, words = (
        "^" * (end - start),
        mistake.message + (f" - tab: {mistake.suggestion}" if mistake.suggestion else ""),
    )
    style = "$text-warning"
    if cell_len(words) < width - end or start <= width - end:
        return Content.assemble(
            " " * start, (carets, f"bold {style}"), (f" {shortened(words, width - end - 1)}", style)
        )
    words = shortened(words, start - 1)
    blank = " " * (start - cell_len(words) - 1)
    return Content.assemble((f"{blank}{words} ", style), (carets, f"bold {style}"))
