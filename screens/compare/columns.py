"""The comparison's table: its columns, and a row's cells with its plot in whatever width is left over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.evaluate.compare import ComparisonRow
from engine.evaluate.measures import METRICS
from engine.evaluate.pairing import BASE
from engine.evaluate.wording import figure
from screens.compare import forest
from screens.compare.told import VERDICTS
from screens.widgets.cells import MARGIN, Cell, Column

ROOMY: Final = 90  # columns of a table from which names may be longer
SHORT: Final = {"accuracy": "acc.", "j": "J", "worst_variant": "worst"}


def columns(axis: str, table_width: int, *, several: bool) -> tuple[Column, ...]:
    """Name, run where there are several, verdict, plot under its axis, figures."""
    roomy = table_width >= ROOMY
    name = Column("in points, 95 %", 22 if roomy else 16)
    run = (Column("run", _run_width(table_width)),) if several else ()
    plot = Column(axis, 12 if several else 20, stretch=True)
    figures = Column("base", 5, right=True), Column("tuned", 5, right=True), Column("n", 6, right=True)
    return (name, *run, Column("verdict", 13), plot, *figures)


def _run_width(table_width: int) -> int:
    return 20 if table_width >= ROOMY else 12


def several(rows: Sequence[ComparisonRow]) -> bool:
    """Whether more than one run, or more than its base, stands in the rows."""
    return len({(row.run, row.against) for row in rows}) > 1


def plot_width(table_width: int, *, several: bool) -> int:
    """What the other columns leave over for the plot."""
    made = columns("", table_width, several=several)
    fixed = sum(column.width + 1 for column in made if not column.stretch)
    return max(*(column.width for column in made if column.stretch), table_width - MARGIN - fixed)


def cells(row: ComparisonRow, axis: forest.Axis, table_width: int, *, several: bool) -> tuple[Cell, ...]:
    """A row as `columns` has it, coloured by its verdict."""
    words, style = VERDICTS[row.verdict]
    per_question = row.answers // row.n if row.n else 1
    quiet = "$foreground-muted"
    figures = (
        (words, style),
        (forest.plot(row, axis, plot_width(table_width, several=several)), style),
        (figure(row.metric, row.base), quiet if row.metric == "retained" else ""),
        figure(row.metric, row.value),
        f"{row.n}x{per_question}" if per_question > 1 else str(row.n),
    )
    name = (_short(row), "" if row.main else quiet)
    return (name, _pair(row, _run_width(table_width)), *figures) if several else (name, *figures)


def _short(row: ComparisonRow) -> str:
    """Suite and metric in a few columns: `pubmedqa acc.`; a suite that is named like its metric stands alone."""
    label = SHORT.get(row.metric, METRICS[row.metric].label)
    return row.suite if row.suite == row.metric else f"{row.suite} {label}"


def _pair(row: ComparisonRow, width: int) -> str:
    """The run, and what it is read against if that is not its base: names by their ends, in which runs of a kind
    differ.
    """
    whole = row.run if row.against == BASE else f"{row.run}/{row.against}"
    if row.against == BASE or len(whole) <= width:
        return _end(whole, width)
    half = (width - 1) // 2
    return f"{_end(row.run, half)}/{_end(row.against, half)}"


def _end(name: str, width: int) -> str:
    return name if len(name) <= width else "…" + name[1 - width :]
