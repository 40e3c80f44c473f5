"""The long work behind the screen, in a thread: open data, see them through a base model, look at all rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine import profile_file
from engine.data.opened import Looked, Opened, look, open_data, with_base
from engine.errors import Problem

TELL: Final = 0.2  # seconds between two signs of progress

Step = str | Opened | Looked | Problem
"""What is told: words, data whose rows can be shown, what was found, or what went wrong."""


@dataclass(frozen=True)
class Wanted:
    """A source to open, as a profile sees it if one is given (TOML); without a source the open data, through another base model."""

    source: str = ""
    profile_text: str | None = None
    base: str = ""


def open_and_look(
    wanted: Wanted, opened: Opened | None, tell: Callable[[Step], None], stopped: Callable[[], bool]
) -> None:
    """Tell what goes on in words, what was opened as soon as its rows can be shown, and at last what was found.

    Raises:
        Problem: it cannot be opened, or the base model cannot be had.
        Stopped: `stopped` said so.
    """
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > TELL:
            told = time.monotonic()
            tell(f"looking at rows: {done:,} of {total:,}, {done / total:.0%}   esc stops")

    if wanted.source or opened is None:
        tell(f"opening {wanted.source} ...")
        text = wanted.profile_text
        settings = None if text is None else profile_file.parse(text, Path.cwd() / "profile.toml")
        opened = open_data(wanted.source, settings)
        tell(opened)
    tell("loading the tokenizer, measuring rows ...   esc stops")
    try:
        seen = with_base(opened, wanted.base)
    except Problem as problem:
        if wanted.base:
            raise
        tell(problem)  # the profile's base cannot be had, but the rows can be looked at
        seen = opened
    tell(seen)
    tell(look(seen, progress, stopped))
