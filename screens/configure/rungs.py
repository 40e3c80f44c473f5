"""The ladder: what would make the run fit, or faster, with what each change saves and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.content import Content

from engine.fit.estimate import GpuFit
from engine.fit.ladder import Rung
from screens.configure.fields import shown
from screens.widgets import figures
from screens.widgets.cells import Cell, Column
from screens.widgets.line import fitted

COLUMNS: Final = (
    Column("change", 32),
    Column("memory", 10, right=True),
    Column("time", 6, right=True),
    Column("", 4),
    Column("price", 16, stretch=True),
)

MANIFOLD: Final = 3.0  # times as long: more is not written in percent


def title(fit: GpuFit) -> str:
    """What the rungs are there for."""
    if fit.fits:
        return "faster, and it still fits"
    enough = fit.ladder and fit.ladder[-1].fits
    return "to make it fit, one on top of the other" if enough else "this would help, and not be enough"


def change(rung: Rung) -> str:
    """What is changed: `micro batch 1`, `name lora, quantization nf4`."""
    return ", ".join(f"{key.rpartition('.')[2].replace('_', ' ')} {shown(value)}" for key, value in rung.change.items())


def memory(rung: Rung) -> str:
    """What it takes less or more: `-9.5 GiB`, `-12 MiB`; nothing where it stays."""
    size = abs(rung.saves_mib)
    if size < 1:
        return ""
    return f"{'-' if rung.saves_mib >= 0 else '+'}{figures.memory(size)}"


def time(rung: Rung) -> str:
    """How much longer or shorter it takes: `+33 %`, `x 62`; nothing where speed is not known or stays."""
    if rung.time is None or abs(rung.time - 1) < 0.005:
        return ""
    if rung.time >= MANIFOLD:
        return f"x {rung.time:.0f}"
    return f"{rung.time - 1:+.0%}".replace("%", " %")


def cells(rung: Rung) -> tuple[Cell, ...]:
    """A rung as a line of the table."""
    fits = ("fits", "$text-success") if rung.fits else ("no", "$foreground-muted")
    return change(rung), memory(rung), time(rung), fits, (rung.price, "$foreground-muted")


def about(rung: Rung | None, taken: Sequence[Rung]) -> str:
    """What is to be known of the rung under the cursor."""
    if rung is None:
        return "There is nothing to change: it fits, and nothing that is known would make it faster."
    with_it = f" and the {len(taken) - 1} above it" if len(taken) > 1 else ""
    return f"{rung.price[:1].upper()}{rung.price[1:]}. enter takes it{with_it}, ctrl+u takes it back."


def key(rung: Rung) -> str:
    """What tells it from the others."""
    return change(rung)


def lines(fit: GpuFit, width: int) -> list[Content]:
    """The rungs under a title, the figures under each other, and under each its price."""
    if not fit.ladder:
        return []
    room = min(width - 20, max(len(change(rung)) for rung in fit.ladder))
    made = [Content.styled(title(fit), "bold")]
    for rung in fit.ladder:
        mark, style = ("✓ ", "$text-success") if rung.fits else ("· ", "$foreground-muted")
        made += [
            Content.assemble((mark, style), fitted(change(rung), room), f" {memory(rung):>9} {time(rung):>6}"),
            Content.styled(f"  {rung.price}", "$foreground-muted"),
        ]
    return made


def words(rungs: Sequence[Rung]) -> str:
    """Rungs in a line: `quantization none +4.5 GiB -5 %, micro batch 8 ...`."""
    return " · ".join(" ".join(part for part in (change(rung), memory(rung), time(rung)) if part) for rung in rungs)
