"""Driving screens in tests: wait for what is to be seen, never for a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from textual.pilot import Pilot
from textual.widget import Widget

from screens.widgets.last_line import Words
from screens.widgets.line import Line

DEADLINE: Final = 20.0  # seconds; only a broken test ever waits so long
LOOK: Final = 0.02  # seconds between two looks


async def until(pilot: Pilot[None], holds: Callable[[], object], what: str = "") -> None:
    """Go on as soon as `holds` is true."""
    for _ in range(round(DEADLINE / LOOK)):  # looks are counted, not the time: a machine may stand still
        if holds():
            return
        await pilot.pause(LOOK)
    raise AssertionError(f"never came: {what or holds}\n{screen(pilot)}")


def screen(pilot: Pilot[None]) -> str:
    """What stands on the screen, as text."""
    size = pilot.app.size
    strips = pilot.app.screen._compositor.render_strips(size)
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


def last_line(pilot: Pilot[None]) -> str:
    """The words of the last line."""
    return pilot.app.screen.query_one(Words).content.plain


def line(pilot: Pilot[None], name: str) -> str:
    """The text of a `Line`."""
    return pilot.app.screen.query_one(f"#{name}", Line).content.plain


def widget(pilot: Pilot[None], kind: type[Widget]) -> Widget:
    """The widget of a kind."""
    return pilot.app.screen.query_one(kind)
