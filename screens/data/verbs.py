"""What keys do on the Data screen."""

from __future__ import annotations

from typing import Final

from screens.commands import Command

VERBS: Final = (
    Command("data.open", "o", "open", "Open a file, folder, glob, downloaded hub data set, or a profile.", "open"),
    Command("data.record", "enter", "record", "Give the row the whole screen; in findings, show their rows.", "record"),
    Command("data.view", "tab", "view", "Next view: Raw, Mapped, Rendered, Tokens, Labels.", "view(1)"),
    Command("data.view_back", "shift+tab", "view back", "The view before.", "view(-1)", show=False),
    Command("data.findings", "f", "findings", "List what was found, or go back to the rows.", "findings"),
    Command("data.filter", "/", "filter", "Show only rows that hold a text, or have tokens>512 label=no ...", "filter"),
    Command("data.base", "b", "base", "Count and show tokens as this base model sees them.", "base"),
    Command("view.zoom", "z", "zoom", "Give the row the whole screen, or take it back.", "zoom", show=False),
    Command("data.copy", "y", "copy", "Copy the view of this row to the clipboard.", "copy", show=False),
    Command("data.back", "escape", "back", "Stop looking; leave the record, then the filter.", "back", show=False),
)
