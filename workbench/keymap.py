"""Which keys there are: the commands of all screens, and a user's own keys for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from textual.binding import BindingsMap

from engine.errors import Problem, closest
from screens.commands import EVERYWHERE, Command
from screens.widgets.moves import MOVES
from screens.widgets.page import Page

FORBIDDEN: Final = frozenset(f"ctrl+{letter}" for letter in "hijmbsz")
"""Terminals send these as other keys, tmux and the shell's job control keep them for themselves; Alt chords arrive as two keys."""


def commands_of(page: type[Page[Any]]) -> tuple[Command, ...]:
    """All that keys do while this screen is shown: its own, how lists move, what is the same everywhere."""
    return (*page.VERBS, *MOVES, *EVERYWHERE)


def keys_of(command: Command, keymap: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of a command as Textual names them (`slash`), with the user's in place of the default."""
    binding = command.binding()
    named = BindingsMap([binding.with_key(keymap.get(command.id, command.key))])
    return tuple(named.key_to_bindings)


def problem_of(key: str) -> str:
    """Why a key cannot be used, or nothing."""
    if key in FORBIDDEN:
        return "terminals send it as another key or keep it for themselves"
    return "Alt chords do not arrive in every terminal" if "alt+" in key else ""


def checked(keymap: Mapping[str, str], pages: tuple[type[Page[Any]], ...]) -> dict[str, str]:
    """The user's key map, if every screen can work with it.

    Raises:
        Problem: a command that is not there, a key that does not arrive, or two commands of one screen on one key.
    """
    known = {command.id: command for page in pages for command in commands_of(page)}
    for name in keymap:
        if name not in known:
            raise _refused(f"there is no command {name}{closest(name, known)}", "? shows the commands of a screen.")
        if trouble := next((f"{key}: {why}" for key in keys_of(known[name], keymap) if (why := problem_of(key))), ""):
            raise _refused(f"{name} cannot be on {trouble}", "Choose another key.")
    for page in pages:
        taken: dict[str, str] = {}
        for command in commands_of(page):
            for key in keys_of(command, keymap):
                if taken.setdefault(key, command.id) != command.id:
                    raise _refused(
                        f"{key} is both {taken[key]} and {command.id} on {page.NAME}", "Give one of them another key."
                    )
    return dict(keymap)


def _refused(what: str, do: str) -> Problem:
    return Problem(f"The key map in the settings does not work: {what}", do=do, code="settings")
