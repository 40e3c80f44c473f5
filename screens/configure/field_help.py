"""The page about one value: what it means, what it may be, what is usual with the other values as they stand, and who found out what."""

from __future__ import annotations

import textwrap
from typing import Final

from textual.content import Content

from engine.explaining import explained
from screens.configure.applies import why_not
from screens.configure.draft import Draft
from screens.configure.fields import shown
from screens.configure.form import NOT_SET, Row, problem_at, standing

TITLES: Final = {
    "means": "what it is",
    "one of": "one of",
    "range": "range",
    "default": "default",
    "usual": "usual here",
    "why": "why",
    "quoted": "quoted",
    "found": "found",
}
NARROW: Final = 15  # columns of the titles
NAMES: Final = 24  # columns of the names of values
WIDEST: Final = 110  # columns of a text that is to be read


def page(row: Row | None, draft: Draft, width: int) -> Content:
    """All that is known about the line under the cursor, wrapped to so many columns."""
    if row is None:
        return Content()
    if row.field is None:
        head = Content.styled(row.section.title, "bold")
        values = [
            _line(field.key.removeprefix(f"{row.section.name}."), field.about, width, NAMES)
            for field in row.section.fields
        ]
        return Content("\n").join([head, Content(row.section.about), Content(), *values])
    field, value = row.field, standing(draft)
    now = Content.assemble((field.key, "bold"), ("   now ", "$foreground-muted"), shown(value(field.key)) or NOT_SET)
    lines = [(TITLES[title], text) for title, text in explained(field, value, shown)]
    made = [now, Content()]
    if reason := problem_at(field.key, draft.problems()):
        made += [Content.styled(f"✗ {reason}", "$text-error"), Content()]
    elif reason := why_not(field.key, value):
        made += [Content.styled(f"· {reason}", "$foreground-muted"), Content()]
    return Content("\n").join([*made, *(_line(title, text, width) for title, text in lines)])


def _line(title: str, text: str, width: int, column: int = NARROW) -> Content:
    """A title and its text, which is indented as far on every line."""
    first, *others = textwrap.wrap(text, max(20, min(width, WIDEST) - column)) or [""]
    indented = "".join(f"\n{'':<{column}}{line}" for line in others)
    return Content.assemble((f"{title:<{column}}", "$foreground-muted"), first + indented)
