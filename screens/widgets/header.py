"""The first line: where you are, and how each GPU is."""

from __future__ import annotations

from textual.content import Content
from textual.events import Click
from textual.reactive import reactive
from textual.widget import Widget

from engine.gpu import Gpu
from screens.commands import GO
from screens.messages import SCREENS, GoTo, ScreenName


class HeaderLine(Widget):
    """Tabs of the five screens; a click on one goes there."""

    DEFAULT_CSS = "HeaderLine { dock: top; height: 1; background: $panel; color: $text-muted; }"

    gpus: reactive[tuple[Gpu, ...]] = reactive(())

    def __init__(self, here: ScreenName, *, read_only: bool = False) -> None:
        super().__init__()
        self._here = here
        self._read_only = read_only

    def render(self) -> Content:
        """Tabs left; right that the ledger cannot be written, and GPU cells."""
        tabs = Content.assemble((" Workbench  ", "bold $text"), *(self._tab(name) for name in SCREENS))
        room = self.size.width - tabs.cell_length - 1
        told = [Content.styled("read-only", "$text-warning")] if self._read_only else []
        cells = Content("  ").join([*told, *(_cell(gpu) for gpu in self.gpus)])
        if cells.cell_length > room:
            cells = told[0] if told else Content(f"{len(self.gpus)} GPUs")
        if cells.cell_length > room:
            cells = Content()
        return tabs.pad_right(max(0, room - cells.cell_length)) + cells

    def _tab(self, name: ScreenName) -> tuple[str, str]:
        command = GO[SCREENS.index(name)]
        words = f"{command.key} {command.label}"
        return (f"[{words}]", "bold $text-accent") if name == self._here else (f" {words} ", "")

    def on_click(self, event: Click) -> None:
        """Go to the screen whose tab was clicked."""
        start = len(" Workbench  ")
        for name in SCREENS:
            end = start + len(self._tab(name)[0])
            if start <= event.x < end:
                self.post_message(GoTo(name))
            start = end


def _cell(gpu: Gpu) -> Content:
    """Index, how full its memory is, and whose: `0▆you`. Figures that the driver does not answer are left out."""
    if gpu.used_mib is None or not gpu.total_mib:
        return Content(f"{gpu.index} ?")
    share = gpu.used_mib / gpu.total_mib
    block = "▁▂▃▄▅▆▇█"[min(7, int(share * 8))]
    others = gpu.others_mib if gpu.others_mib is not None else gpu.used_mib
    if (gpu.mine_mib or 0) > 0.02 * gpu.total_mib:
        return Content.assemble(f"{gpu.index}", (f"{block}you", "$text-success"))
    if others > 0.05 * gpu.total_mib:
        return Content.assemble(f"{gpu.index}", (f"{block}used", "$text-warning"))
    return Content.assemble(f"{gpu.index}", (f"{block}free", "$foreground-muted"))
