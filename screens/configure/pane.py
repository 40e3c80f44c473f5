"""The estimate as a widget: it is told again in the colours of another theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.content import Content

from screens.configure.bars import Colour
from screens.widgets import colours
from screens.widgets.line import Line


class EstimatePane(Line):
    """`tell` gives it what makes its text of colours, and what that text is of: as long as it is the same, nothing is done."""

    DEFAULT_CSS = colours.rules("EstimatePane")
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"estimatepane--{number}" for number in range(colours.COLOURS)}
    _made: Callable[[Colour], Content] | None = None
    _of: tuple[object, ...] = ()

    def tell(self, made: Callable[[Colour], Content], of: tuple[object, ...]) -> None:
        """Show this from now on."""
        if of != self._of:
            self._made, self._of = made, of
            self.show(made(self.colour))

    def colour(self, number: int) -> str:
        """A colour as a style."""
        return self.get_component_styles(f"estimatepane--{number % colours.COLOURS}").color.hex

    def notify_style_update(self) -> None:
        """Another theme has other colours."""
        super().notify_style_update()
        if self._made is not None:
            self.show(self._made(self.colour))
