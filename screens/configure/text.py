"""The profile as a file: what differs from what it began as stands out, and so does the value under the cursor."""

from __future__ import annotations

import difflib
from typing import Final

from textual.content import Content

from engine.profile_errors import line_of
from screens.configure.draft import Draft

HEAD: Final = "bold"
COMMENT: Final = "$foreground-muted"
CHANGED: Final = "$text-warning"


def place(draft: Draft, key: str) -> int | None:
    """The line of a dotted key, counted from 0; None where neither it nor its table is in the file."""
    found = line_of(draft.text, tuple(int(part) if part.isdigit() else part for part in key.split(".")))
    return None if found is None else found - 1


def toml(draft: Draft, key: str = "") -> Content:
    """The text, with `▌` at the line of a dotted key."""
    lines, other = draft.text.splitlines(), _changed(draft)
    here = place(draft, key) if key else None
    made = []
    for number, line in enumerate(lines):
        stripped = line.lstrip()
        style = (
            CHANGED
            if number in other
            else HEAD
            if stripped.startswith("[")
            else COMMENT
            if stripped.startswith("#")
            else ""
        )
        made.append(Content.assemble(("▌" if number == here else " ", "$text-accent"), (line, style)))
    return Content("\n").join(made)


def _changed(draft: Draft) -> frozenset[int]:
    """Lines that the text it began as has not, or has otherwise."""
    if draft.text == draft.origin:
        return frozenset()
    matcher = difflib.SequenceMatcher(None, draft.origin.splitlines(), draft.text.splitlines(), autojunk=False)
    return frozenset(
        line for tag, _, _, start, end in matcher.get_opcodes() if tag != "equal" for line in range(start, end)
    )


def diff(draft: Draft) -> Content:
    """What went in red and what came in green."""
    styles = {"+": "$text-success", "-": "$text-error", "@": "$foreground-muted"}
    parts = [(line + "\n", styles.get(line[:1], "")) for line in draft.diff()]
    return Content.assemble(*parts) if parts else Content.styled("Nothing differs.", "$foreground-muted")
