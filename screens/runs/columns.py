"""The columns of the table of runs."""

from __future__ import annotations

from typing import Final

from engine.ledger.states import LIVE
from screens.runs.reading import Row
from screens.widgets import figures, states
from screens.widgets.table import Cell, Column

STEP: Final = 8  # columns
COLUMNS: Final = (
    Column("name", 16, stretch=True),  # together 79 columns, so that a scrollbar finds room
    Column("state", 12),
    Column("step", STEP, right=True),
    Column("val", 6, right=True),
    Column("★best", 7, right=True),
    Column("rank", 4, right=True),
    Column("rate", 6, right=True),
    Column("ends", 6, right=True),
    Column("age", 3, right=True),
)


def cells(row: Row) -> tuple[Cell, ...]:
    """A row as the table shows it."""
    run = row.run
    step = figures.count(run.step) if run.step else figures.NONE
    if run.step and run.steps and run.state in LIVE:
        of = f"{step}/{figures.count(run.steps)}"
        step = of if len(of) <= STEP else f"{step} {100 * run.step // run.steps}%"
    past = "" if run.state in LIVE else "$foreground-muted"
    best = f"{'★' if row.leads else ''}{figures.value(row.best)}"
    return (
        run.name,
        states.styled(run.state, run.cause, row.place),
        step,
        figures.value(row.val),
        (best, "bold $text-success") if row.leads else best,
        (str(row.rank) if row.rank else figures.NONE, past),
        (figures.scientific(row.rate), past),
        figures.end(run.ends if run.state in LIVE else None, run.created + row.age),
        (figures.duration(row.age), past),
    )
