"""A line to type in that keeps the order of keys."""

from __future__ import annotations

from collections.abc import Callable

from textual.events import Key
from textual.widgets import Input


class Entry(Input):
    """An input that does everything in the order in which it was typed.

    Textual inserts characters at once, but lets other keys wander up to the App before it looks for what they are bound to. Of
    keys that come in one packet, as over a slow line, "a, backspace, b" would become "a": here they all are done at once.
    """

    complete: Callable[[str, int], tuple[str, int] | None] | None = None
    """What tab, or `→` at the end, makes of the text with its cursor; it gives None where there is nothing to make."""

    async def _on_key(self, event: Key) -> None:
        if self._completed(event.key):
            event.stop()
            event.prevent_default()
            return
        for binding in self._bindings.key_to_bindings.get(event.key, ()):
            if await self.app.run_action(binding.action, self):
                event.stop()
                event.prevent_default()
                return
        await super()._on_key(event)

    def _completed(self, key: str) -> bool:
        """Whether the key was one that completes, and did."""
        if self.complete is None or not (key == "tab" or (key == "right" and self.cursor_at_end)):
            return False
        made = self.complete(self.value, self.cursor_position)
        if made is not None:
            self.value, self.cursor_position = made
        return made is not None
