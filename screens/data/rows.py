"""Rows and findings as lines of a table."""

from __future__ import annotations

from typing import Final

from engine.data.finding import Finding
from engine.data.opened import Opened
from engine.errors import Problem
from screens.data.summary import MARKS
from screens.data.visible import in_a_line
from screens.widgets.cells import Cell, Column
from screens.widgets.figures import NONE

LETTERS: Final = 200  # of a row's text that can be on a line
ROW_COLUMNS: Final = (
    Column("row", 7, right=True),
    Column("tokens", 7, right=True),
    Column("superv.", 7, right=True),
    Column("label", 8),
    Column("text", 20, stretch=True),
)
FINDING_COLUMNS: Final = (
    Column("", 1),
    Column("rows", 7, right=True),
    Column("finding", 20, stretch=True),
)


def row_cells(opened: Opened, row: int) -> tuple[Cell, ...]:
    """Number, tokens (`!` where over the limit), supervised tokens, label, and how the conversation or document begins."""
    number = f"{row + 1:,}"
    try:
        example = opened.example(row)
    except Problem as problem:
        return number, NONE, NONE, "", (in_a_line(problem.what), "$text-error")
    length, supervised = int(opened.measured.lengths[row]), int(opened.measured.supervised[row])
    tokens: Cell = NONE
    if opened.renderer is not None and length >= 0:
        over = opened.limit is not None and length > opened.limit
        tokens = (f"{length:,}!", "$text-warning") if over else f"{length:,} "
    counted = f"{supervised:,}" if opened.renderer is not None and supervised >= 0 else NONE
    return (
        number,
        tokens,
        counted,
        in_a_line(example.label or ""),
        in_a_line(example.asked[:LETTERS]),
    )


def finding_cells(finding: Finding) -> tuple[Cell, ...]:
    """How bad, how often, what."""
    return MARKS[finding.severity], f"{finding.count:,}", in_a_line(finding.sentence.partition(": ")[2])
