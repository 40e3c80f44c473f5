"""What the keys of Configure do, most important first, and where its widgets stand."""

from __future__ import annotations

from typing import Final

from screens.commands import Command

FIND: Final = Command("configure.find", "/", "find", "Look for words in the presets, or in the models.", "find")
BACK: Final = Command("configure.back", "escape", "back", "Back to the form.", "view('form')", show=False)
VERBS: Final = (
    Command("configure.edit", "enter", "edit", "Change the value, open or close the section, take the preset.", "edit"),
    Command("configure.run", "R", "run", "Start a run of this profile.", "launch(False)"),
    Command("configure.queue", "Q", "queue", "Start a run that waits until its GPU is free.", "launch(True)"),
    Command(
        "configure.presets", "p", "presets", "Begin from a profile that ships, a file, or a run.", "view('presets')"
    ),
    Command(
        "configure.ladder", "L", "ladder", "Show what would make it fit, or faster; enter takes it.", "view('ladder')"
    ),
    Command("configure.ease", "e", "ease", "Take the first rung of the ladder.", "ease"),
    Command(
        "configure.why",
        "i",
        "why",
        "What the value means, what is usual, and what was found out about it.",
        "view('why')",
    ),
    Command("view.zoom", "z", "zoom", "Show all of the estimate, or the form again.", "zoom"),
    Command("configure.gpu", "u", "GPU", "Judge the profile for a GPU that is here, or for a kind that is not.", "gpu"),
    Command("configure.toml", "v", "TOML", "Show the profile as a file.", "view('toml')"),
    Command("configure.diff", "d", "diff", "Show what differs from what it began as.", "view('diff')"),
    Command("configure.save", "w", "save", "Save the profile as a file.", "save"),
    FIND,
    Command("configure.data", "o", "open data", "Show the data on Data, as this profile sees them.", "look_at_data"),
    Command("configure.undo", "ctrl+u", "undo", "Take the last change back.", "undo"),
    Command("configure.redo", "ctrl+r", "redo", "Make the change again that was taken back.", "redo", show=False),
    Command("view.copy", "y", "copy", "Copy the profile as TOML.", "copy", show=False),
    BACK,
)

CSS: Final = """
ConfigureScreen #verdict { height: auto; max-height: 2; padding: 0 1; }
ConfigureScreen #file { height: 1; padding: 0 1; color: $text-muted; }
ConfigureScreen #body { layout: vertical; height: 1fr; }
ConfigureScreen #left { height: 1fr; }
ConfigureScreen #about { height: auto; max-height: 4; padding: 0 1; color: $text-muted; }
ConfigureScreen.-steady #about { height: 2; }
ConfigureScreen #beside { height: auto; max-height: 8; padding: 0 1; border-top: solid $panel; }
ConfigureScreen #beside.-stale { text-opacity: 50%; }
ConfigureScreen.-wide #body { layout: horizontal; }
ConfigureScreen.-wide #left { width: 3fr; }
ConfigureScreen.-wide #beside { width: 2fr; height: 1fr; max-height: 100%; border-top: none; border-left: solid $panel; }
ConfigureScreen #file_beside { display: none; width: 2fr; height: 1fr; padding: 0 1; border-left: solid $panel; }
ConfigureScreen #text, ConfigureScreen #whole { padding: 0 1; }
"""
