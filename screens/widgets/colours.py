"""The colours that tell curves and parts of a bar apart: Okabe and Ito's, which people with any colour vision can tell apart.

A dark, a light and a 16-colour theme have their own; they are never the only thing that tells.
"""

from __future__ import annotations

from typing import Final

DARK: Final = ("#56b4e9", "#cc79a7", "#e69f00", "#009e73", "#f0e442", "#9aa7b4", "#d55e00", "#4a7fd6")
LIGHT: Final = ("#0072b2", "#a3447a", "#c65a00", "#00795a", "#8a7d00", "#5b6670", "#a03a00", "#3a3fae")
ANSI: Final = ("cyan", "magenta", "yellow", "green", "blue", "white", "red", "bright_blue")
COLOURS: Final = len(DARK)


def rules(widget: str) -> str:
    """CSS for the component classes `WIDGET--0` to `WIDGET--7` of a widget's class."""
    themes = (("", DARK), (":light", LIGHT), (":ansi", [f"ansi_{name}" for name in ANSI]))
    return "\n".join(
        f"{widget}{theme} > .{widget.lower()}--{number} {{ color: {colour}; }}"
        for theme, colours in themes
        for number, colour in enumerate(colours)
    )
