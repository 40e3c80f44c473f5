"""What `/` may ask of the events of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, get_args

from engine.filtering import Field, Value
from engine.ledger.events import Event, Level

FIELDS: Final = (
    Field("text", "text", "what is said"),
    Field("level", "choice", "how bad it is", get_args(Level)),
    Field("kind", "text", "what it is about"),
    Field("step", "number", "the step at which it happened"),
    Field("age", "duration", "how long ago"),
)


def fact(event: Event, now: float) -> Callable[[str], Value]:
    """What an event has for the fields at the time `now` (epoch seconds); its text, for a sample also what was asked."""

    def value(name: str) -> Value:
        if name == "text":
            return f"{event.said} {event.detail.get('prompt', '')}"
        if name == "level":
            return event.level
        if name == "kind":
            return event.kind
        return event.step if name == "step" else now - event.time

    return value
