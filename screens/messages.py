"""What screens ask of each other. They do not import each other: they post one of these, the App shows the screen and hands it over.

The screen that is meant gets the message in `Page.receive`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, get_args

from textual.message import Message

from screens.session import View

ScreenName = Literal["runs", "data", "configure", "monitor", "compare"]
SCREENS: Final[tuple[ScreenName, ...]] = get_args(ScreenName)


class GoTo(Message):
    """Show this screen."""

    def __init__(self, screen: ScreenName) -> None:
        super().__init__()
        self.screen = screen


class WatchRun(Message):
    """Monitor: show this run."""

    def __init__(self, uid: str) -> None:
        super().__init__()
        self.uid = uid


class KeepView(Message):
    """The settings: look at the table of runs in this way from now on."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.view = view


class LookAtData(Message):
    """Data: open this source, mapped and rendered as the profile says if one is given (TOML)."""

    def __init__(self, source: str, profile_text: str | None = None) -> None:
        super().__init__()
        self.source = source
        self.profile_text = profile_text


class ConfigureFrom(Message):
    """Configure: start from this profile file or from this run's profile."""

    def __init__(self, path: Path | None = None, run_uid: str | None = None) -> None:
        super().__init__()
        self.path = path
        self.run_uid = run_uid


class CompareRuns(Message):
    """Compare: set these runs side by side, the first being the one the others are read against."""

    def __init__(self, uids: Sequence[str]) -> None:
        super().__init__()
        self.uids = tuple(uids)


class EvaluateRuns(Message):
    """Compare: choose suites for these runs and evaluate them."""

    def __init__(self, uids: Sequence[str]) -> None:
        super().__init__()
        self.uids = tuple(uids)
