"""What fills a GPU's memory, as a bar: each part of the run with its colour and its letter, what is free, and what others hold.

The bar is all memory of the GPU. From the left stand the run's parts, then what stays free, at the right what is in use already; `│` is how
far a run may go, the headroom being kept free behind it. A part too small for a cell has its figure in the legend all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final

from textual.content import Content

from engine.fit.estimate import GpuFit, Parts
from screens.widgets import figures

Colour = Callable[[int], str]
"""The style of a colour by its number; see `screens.widgets.colours`."""
PARTS: Final = {
    "weights": ("W", 0),
    "adapter": ("D", 1),
    "gradients": ("G", 2),
    "optimizer": ("O", 3),
    "activations": ("A", 7),
    "logits": ("L", 4),
    "temporaries": ("T", 5),
    "context": ("C", 6),
}
"""The letter of each part, the first of its own, and the number of its colour; from what stays to what passes."""
FREE, USED, MARK, BEYOND = "·", "╱", "│", "▶"
SEEN_MIB: Final = 0.5  # of a part: less is none
QUIET: Final = "$foreground-muted"


def bar(fit: GpuFit, headroom_mib: float, width: int, colour: Colour) -> Content:
    """The bar in so many cells. What does not find room on the GPU at all ends in a red arrow."""
    cells = list(_cells(fit, width))
    length = len(cells)
    used = round((fit.total_mib - fit.free_mib) * width / fit.total_mib)
    free = max(0, width - used - length)
    cells += [(FREE, QUIET)] * free
    cells += [(USED, QUIET)] * (width - len(cells))
    limit = round((fit.free_mib - headroom_mib) * width / fit.total_mib)
    if 0 < limit < width:
        cells[limit] = (MARK, "bold" if fit.fits else "bold $text-error")
    if length > width:
        cells[width - 1 :] = [(BEYOND, "bold $text-error")]
    return Content.assemble(*_runs(cells, colour))


def _cells(fit: GpuFit, width: int) -> Iterator[tuple[str, str]]:
    """A cell of its letter and the number of its colour for what each part fills."""
    edge = 0.0
    for name, (letter, number) in PARTS.items():
        begin, edge = edge, edge + getattr(fit.parts, name) * width / fit.total_mib
        yield from [(letter, str(number))] * min(round(edge) - round(begin), width + 1)


def _runs(cells: list[tuple[str, str]], colour: Colour) -> Iterator[tuple[str, str]]:
    """Equal cells together; those of a part begin with its letter, cut out of the filling."""
    begun: set[str] = set()
    for (letter, style), run in groupby(cells):
        count = len(list(run))
        if not style.isdigit():
            yield letter * count, style
            continue
        if letter not in begun:
            begun.add(letter)
            yield letter, f"reverse {colour(int(style))}"
            count -= 1
        yield "█" * count, colour(int(style))


def legend(parts: Parts, used_mib: float, colour: Colour) -> list[Content]:
    """What each letter stands for, in GiB where nothing else is said; what others hold comes last."""
    told = [
        Content.assemble((letter, f"reverse {colour(number)}"), f" {name} {_size(getattr(parts, name))}")
        for name, (letter, number) in PARTS.items()
        if getattr(parts, name) >= SEEN_MIB
    ]
    if used_mib >= 1:
        told.append(Content.assemble((USED, QUIET), f" in use {figures.gib(used_mib)}"))
    return told


def _size(mib: float) -> str:
    """In GiB; with its unit where that would be none."""
    return figures.memory(mib) if figures.gib(mib) == "0" else figures.gib(mib)


def wrapped(words: Sequence[Content], width: int, between: str = "  ") -> list[Content]:
    """Words that stay whole, in as many lines as they take."""
    lines: list[Content] = []
    for word in words:
        if lines and lines[-1].cell_length + len(between) + word.cell_length <= width:
            lines[-1] = Content.assemble(lines[-1], between, word)
        else:
            lines.append(word)
    return lines
