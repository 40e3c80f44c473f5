"""The estimate as a widget: it is told again in the colours of another theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.content import Content

from screens.configure.bars import Colour
from screens.widgets import colours
from screens.widgets.line import Line


class EstimatePane(Line):
    """`tell` gives it what makes its text of colours."""

    DEFAULT_CSS = colours.rules("EstimatePane")
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"estimatepane--{number}" for number in range(colours.COLOURS)}
    _made: Callable[[Colour], Content] | None = None

    def tell(self, made: Callable[[Colour], Content]) -> None:
        """Show this from now on."""
        self._made = made
        self.show(made(self.colour))

    def colour(self, number: int) -> str:
        """A colour as a style."""
        return self.get_component_styles(f"estimatepane--{number % colours.COLOURS}").color.hex

    def notify_style_update(self) -> None:
        """Another theme has other colours."""
        super().notify_style_update()
        if self._made is not None:
            self.show(self._made(self.colour))
