"""Events as all screens write them: a mark and a colour by how bad it is, and what is said, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.ledger.events import Event, Level

MARKS: Final[Mapping[Level, str]] = {"info": " ", "warning": "!", "error": "✗"}
STYLES: Final[Mapping[Level, str]] = {"info": "", "warning": "$text-warning", "error": "$text-error"}


def in_a_line(event: Event) -> str:
    """What it says, with its step where the text does not name that."""
    step = f" (step {event.step})" if event.step is not None and str(event.step) not in event.text else ""
    return " ".join(event.said.split()) + step
