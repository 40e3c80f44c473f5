"""A state is a symbol and a word; the colour only repeats what they say."""

from __future__ import annotations

from typing import Final

from engine.ledger.states import State

SYMBOLS: Final = {
    State.QUEUED: "○",
    State.STARTING: "◌",
    State.RUNNING: "●",
    State.PAUSED: "‖",
    State.STOPPING: "●",
    State.FINISHED: "✓",
    State.STOPPED: "■",
    State.FAILED: "✗",
    State.LOST: "?",
}
STYLES: Final = {
    State.QUEUED: "$foreground-muted",
    State.STARTING: "$text-success",
    State.RUNNING: "$text-success",
    State.PAUSED: "$text-warning",
    State.STOPPING: "$text-warning",
    State.FINISHED: "$text",
    State.STOPPED: "$foreground-muted",
    State.FAILED: "$text-error",
    State.LOST: "$text-warning",
}


def described(state: State, cause: str = "", place: int | None = None) -> str:
    """Symbol and word; a failure says its cause in place of the word, who waits in the queue the place: `✗ OOM at 12`, `○ queued 2`."""
    word = cause if state is State.FAILED and cause else state.value
    return f"{SYMBOLS[state]} {word}" + (f" {place}" if place and state is State.QUEUED else "")


def styled(state: State, cause: str = "", place: int | None = None) -> tuple[str, str]:
    """`described` and its style, as a cell of a table."""
    return described(state, cause, place), STYLES[state]
