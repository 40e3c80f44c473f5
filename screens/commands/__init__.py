"""One `Command` is the key binding, the footer text, the palette entry, the help line and the name a user's key map refers to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from textual.binding import Binding
from textual.keys import key_to_character


@dataclass(frozen=True)
class Command:
    """Something a key does.

    `id` is what a key map names it by ("runs.pause"), `key` as people write it ("P", "/", "space", or several: "j,down"), `label` one
    or two words for the last line, `help` one sentence, `action` the name of a Textual action of whoever declares the command.
    Commands that are not to `show` on the last line are still in the help and in the palette.
    """

    id: str
    key: str
    label: str
    help: str
    action: str
    show: bool = True

    def binding(self) -> Binding:
        """As Textual wants it."""
        return Binding(self.key, self.action, self.label, id=self.id, show=self.show)


WRITTEN: Final = {
    "escape": "esc",
    "pagedown": "pgdn",
    "pageup": "pgup",
    "space": "space",
    "tab": "tab",
    "slash": "/",
    "plus": "+",
    "underscore": "_",
    "backslash": "\\",
}


def shown_key(key: str) -> str:
    """A key as people read it: the first of several, `/` for slash, `^p` for ctrl+p."""
    first = key.split(",")[0].strip() or key
    return WRITTEN.get(first) or key_to_character(first) or first.replace("ctrl+", "^")


GO: Final = tuple(
    Command(
        f"go.{name.lower()}", str(number), name, f"Go to the {name} screen.", f"app.go('{name.lower()}')", show=False
    )
    for number, name in enumerate(("Runs", "Data", "Configure", "Monitor", "Compare"), 1)
)
"""The five screens, in the order of their keys."""

HELP: Final = Command("app.help", "?", "help", "Show what every key does here.", "app.help", show=False)
PALETTE: Final = Command(
    "app.palette", "ctrl+p", "palette", "Find a command by its name.", "app.command_palette", show=False
)
QUIT: Final = Command("app.quit", "ctrl+q", "quit", "Leave. Runs go on.", "app.quit", show=False)

EVERYWHERE: Final = (*GO, HELP, PALETTE, QUIT)
"""What the same keys do on all screens."""
