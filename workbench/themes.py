"""How it looks: a dark, a light and a 16-colour theme, and what stands in for symbols where a terminal has only ASCII.

One accent for focus; green, amber and red only for good, watch and bad; grey for what is past. Nothing is said by colour alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

DARK: Final = Theme(
    name="workbench-dark",
    primary="#6ea8fe",
    secondary="#9aa7b4",
    accent="#8fbcff",
    success="#7ec98f",
    warning="#e3b35d",
    error="#ec7a80",
    foreground="#d5dbe2",
    background="#0e1216",
    surface="#141a20",
    panel="#22282d",  # of 256 colours a grey: more blue would be black, and lines between panes not seen
    dark=True,
)
LIGHT: Final = Theme(
    name="workbench-light",
    primary="#1f5fbf",
    secondary="#5b6670",
    accent="#1f5fbf",
    success="#1d7a3a",
    warning="#96620a",
    error="#b3242d",
    foreground="#1d2329",
    background="#fbfbf9",
    surface="#f2f2ee",
    panel="#e5e7e4",
    dark=False,
)
ANSI: Final = Theme(
    name="workbench-ansi",
    ansi=True,
    primary="ansi_blue",
    secondary="ansi_cyan",
    accent="ansi_cyan",
    success="ansi_green",
    warning="ansi_yellow",
    error="ansi_red",
    foreground="ansi_default",
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    dark=True,
    variables={
        "ansi-background": "ansi_black",
        "ansi-foreground": "ansi_white",
        "block-cursor-foreground": "ansi_black",
        "block-cursor-background": "ansi_white",
        "input-cursor-background": "ansi_white",
        "input-cursor-foreground": "ansi_black",
        "input-selection-background": "ansi_blue",
        "input-selection-foreground": "ansi_white",
    },
)
THEMES: Final = (DARK, LIGHT, ANSI)

PAIRS: Final = """
●> ▶> ╱/ ◌~ ‖= ○o ✓+ ■. ✗x ★* ◆# ▌| ▸> ▾v ·. –- —- …~ │| ┤| ├| ┼+ └+ ┘+ ┌+ ┐+ ┬+ ┴+ ─- ━- ═= →> ←< ↑^ ↓v ×x ±+ ≥> ≤< ⏎/
▏| ▎| ▍| ▋| ▊| ▉| █# ▁_ ▂_ ▃_ ▄= ▅= ▆= ▇# ░. ▒: ▓# ▔- ▕| ▀- ▐| ‘' ’' “" ”" ²2 °o µu
"""
SPELLED: Final[dict[str, str]] = {pair[0]: pair[1] for pair in PAIRS.split()}
"""What an ASCII locale shows in place of each symbol; always one column for one column."""


def fitting(chosen: str, colours: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The theme for a terminal: the 16-colour one under NO_COLOR or where there are no more (`colours` is Rich's name for it)."""
    poor = "NO_COLOR" in environment or colours == "standard"
    return ANSI.name if poor and chosen == DARK.name else chosen


def only_ascii(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the locale says that the terminal cannot show more; without a locale it is taken to."""
    said = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or "UTF-8"
    return environment.get("TERM") == "linux" or "utf" not in said.casefold()


class AsciiOnly(LineFilter):
    """Every symbol by one that any terminal has: curves become dots, states their letters."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Segments with the same widths and styles."""
        return [
            segment if segment.text.isascii() else Segment(_spelled(segment.text), segment.style, segment.control)
            for segment in segments
        ]


def _spelled(text: str) -> str:
    return "".join(letter if letter.isascii() else _letter(letter) for letter in text)


def _letter(letter: str) -> str:
    if "\u2800" <= letter <= "\u28ff":
        return _curve(ord(letter) - 0x2800)
    return SPELLED.get(letter) or "?" * cell_len(letter)


def _curve(bits: int) -> str:
    """A braille cell by where its dots are: high, in the middle, low, or all the way."""
    rows = [row for row, dots in enumerate((0x09, 0x12, 0x24, 0xC0)) if bits & dots]
    if not rows:
        return " "
    if rows[-1] - rows[0] >= 2:
        return "|"
    return "'" if rows[0] == 0 else "-" if rows[-1] < 3 else "."
