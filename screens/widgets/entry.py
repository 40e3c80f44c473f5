"""A line to type in that keeps the order of keys."""

from __future__ import annotations

from textual.events import Key
from textual.widgets import Input


class Entry(Input):
    """An input that does everything in the order in which it was typed.

    Textual inserts characters at once, but lets other keys wander up to the App before it looks for what they are bound to. Of
    keys that come in one packet, as over a slow line, "a, backspace, b" would become "a": here they all are done at once.
    """

    async def _on_key(self, event: Key) -> None:
        for binding in self._bindings.key_to_bindings.get(event.key, ()):
            if await self.app.run_action(binding.action, self):
                event.stop()
                event.prevent_default()
                return
        await super()._on_key(event)
