"""What has happened to a run while another screen was shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from textual.content import Content

from engine.ledger.facts import LOSS
from screens.monitor.reading import Snapshot
from screens.widgets import figures

AWAY: Final = 60.0  # seconds; a shorter absence is not worth a line


@dataclass(frozen=True)
class Left:
    """How things stood when the screen was left, at `when` (seconds since the epoch); `event` is the id of the newest."""

    when: float
    uid: str
    step: int
    loss: float | None
    event: int

    @classmethod
    def behind(cls, snapshot: Snapshot, now: float) -> Left:
        """What is left behind now."""
        newest = snapshot.events[0].id if snapshot.events else 0
        return cls(now, snapshot.run.uid, snapshot.run.step, snapshot.last.get(LOSS), newest)


def since(left: Left | None, snapshot: Snapshot, back: float) -> Content:
    """A line on it for who came back at `back` (seconds since the epoch); empty for another run, or who was not away for long."""
    if left is None or left.uid != snapshot.run.uid or back - left.when < AWAY:
        return Content()
    loss = snapshot.last.get(LOSS)
    fell = f", val {figures.value(left.loss)} -> {figures.value(loss)}" if loss != left.loss else ""
    warnings = sum(event.id > left.event and event.level != "info" for event in snapshot.events)
    warned = f", {warnings} warning{'s' if warnings > 1 else ''}" if warnings else ""
    away = figures.duration(back - left.when)
    return Content(f"since you left for {away}: {snapshot.run.step - left.step} steps{fell}{warned}")
