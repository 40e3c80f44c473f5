"""In which state a foreign training is, from what its files say and whether its process lives. What cannot be known is not claimed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.ending import OUT_OF_MEMORY
from engine.ledger.states import State
from engine.watching.sources import Heard

FRESH: Final = 120.0  # seconds: where no process is known, younger files are a living one's


@dataclass(frozen=True)
class Verdict:
    """A state, and for one that ended why, as `engine.ending.Ending` says it."""

    state: State
    cause: str = ""
    message: str = ""


def verdict(heard: Heard, *, step: int, steps: int | None, alive: bool | None, now: float) -> Verdict:
    """The state at `now` (seconds since the epoch) at `step` of `steps`; `alive` is None where its process is not known.

    Trainer's own last word comes before all; then a process that lives; then what its output and its trackers say of its end. Gone
    without a word is `lost`.
    """
    if heard.trained:
        return Verdict(State.FINISHED)
    if alive:
        return Verdict(State.RUNNING)
    if heard.raised:
        return _raised(heard.raised, step)
    if heard.ended is State.FAILED:
        return Verdict(State.FAILED, heard.cause, f"Its tracker says that it ended with {heard.cause}.")
    if heard.ended is State.FINISHED or (steps is not None and 0 < steps <= step):
        return Verdict(State.FINISHED)
    if alive is None and now - heard.newest < FRESH:
        return Verdict(State.RUNNING)
    return Verdict(State.LOST)


def _raised(line: str, step: int) -> Verdict:
    """What the exception that ended the output stands for."""
    kind, _, words = line.partition(":")
    kind = kind.rpartition(".")[2]
    if kind == "KeyboardInterrupt":
        return Verdict(State.STOPPED, "signal", "It was stopped from its keyboard.")
    if kind in ("OutOfMemoryError", "MemoryError") or any(each in words for each in OUT_OF_MEMORY):
        return Verdict(State.FAILED, f"OOM at {step}", f"Out of memory at step {step}\n{words.strip()}")
    if "No space left on device" in words:
        return Verdict(State.FAILED, "disk", f"The disk is full\n{words.strip()}")
    return Verdict(State.FAILED, kind, line)
