"""How every list moves."""

from __future__ import annotations

from typing import Final

from screens.commands import Command

MOVES: Final = (
    Command("move.down", "j,down", "down", "Move down a line.", "move(1)", show=False),
    Command("move.up", "k,up", "up", "Move up a line.", "move(-1)", show=False),
    Command(
        "move.left",
        "h,left",
        "left",
        "Move left, where a table is wider than the screen.",
        "move_across(-8)",
        show=False,
    ),
    Command(
        "move.right",
        "l,right",
        "right",
        "Move right, where a table is wider than the screen.",
        "move_across(8)",
        show=False,
    ),
    Command("move.first", "g,home", "first", "Go to the first line.", "move_to_first", show=False),
    Command("move.last", "G,end", "last", "Go to the last line.", "move_to_last", show=False),
    Command("move.page_down", "pagedown", "page down", "Move down a page.", "move_page(1)", show=False),
    Command("move.page_up", "pageup", "page up", "Move up a page.", "move_page(-1)", show=False),
)
