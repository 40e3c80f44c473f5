"""The curves of several runs in one chart: one metric, the run under the cursor on top, a legend that reads values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich.cells import cell_len
from textual.app import ComposeResult
from textual.content import Content

from engine.ledger import evidence, table
from engine.ledger.runs import Run
from screens.commands import Command
from screens.runs.columns import title
from screens.runs.diff import DiffScreen, plain
from screens.runs.grouping import END
from screens.runs.overlaid import Line as Curve
from screens.runs.overlaid import Overlaid, Reading
from screens.session import Session
from screens.widgets import figures, states
from screens.widgets.cells import Cell, Column
from screens.widgets.chart import Chart
from screens.widgets.line import Line, shortened
from screens.widgets.page import Page
from screens.widgets.scales import SCALES
from screens.widgets.series import Series
from screens.widgets.table import Table

NAMES: Final = {"-narrow": 24, "-wide": 44}  # columns of a run's name at most
VALUE: Final = 16  # columns of a setting's value in the legend
LEGEND: Final = 9  # lines at most, of the titles and the runs; more are scrolled to
MIXED: Final = "! Other validation rows or another objective: these losses say little of each other."
UNTOLD: Final = "evaluation."  # the beginning of settings that have no part in a curve


@dataclass(frozen=True, eq=False)
class Entry:
    """A line of the legend. `value` is the last, or the newest up to the chart's cursor."""

    curve: Curve
    value: float | None
    differs: str


class OverlayScreen(Page[Overlaid]):
    """One metric of several runs."""

    NAME = "runs"
    TITLE = "Overlay"
    VERBS = (
        Command("overlay.previous", "[", "chart", "Show the metric before this one.", "chart(-1)", show=False),
        Command("overlay.next", "]", "chart", "Show the next metric that one of the runs has.", "chart(1)"),
        Command("overlay.axis", "_", "axis", "Draw over steps, tokens, time at work or epochs.", "axis"),
        Command("overlay.smooth", "s", "smooth", "Draw the mean of neighbouring points.", "smooth"),
        Command("overlay.log", "|", "log", "Draw values on a logarithmic scale.", "logarithmic"),
        Command(
            "overlay.cursor_back", "<", "cursor", "Move the chart's cursor back; the legend reads values.", "cursor(-1)"
        ),
        Command(
            "overlay.cursor_on",
            ">",
            "cursor",
            "Move the chart's cursor on; past the end it goes away.",
            "cursor(1)",
            show=False,
        ),
        Command("view.zoom", "z", "zoom", "Give the chart the whole screen, or take it back.", "zoom"),
        Command("overlay.diff", "d", "diff", "Show in what these runs differ.", "diff"),
        Command("overlay.back", "escape", "back", "Leave the zoom, else go back to the runs.", "back"),
    )
    CSS = """
    OverlayScreen Chart { padding: 0 1; }
    OverlayScreen #legend { height: auto; border-top: solid $panel; }
    OverlayScreen #note, OverlayScreen #mixed { height: 1; padding: 0 1; color: $text-muted; display: none; }
    OverlayScreen.-mixed #mixed { display: block; }
    OverlayScreen.-zoomed #legend { display: none; }
    OverlayScreen.-zoomed #note { display: block; }
    """

    def __init__(self, session: Session, runs: Sequence[Run]) -> None:
        super().__init__(session)
        self._runs = tuple(runs)
        self._reading = Reading(session.ledger, runs)
        self._metric: str | None = None
        self._scale = SCALES[0]
        self._smoothed = False
        self._snapshot = Overlaid()
        self._differs: Mapping[int, str] | None = None

    def compose_body(self) -> ComposeResult:
        """The chart; under it a line a run."""
        yield Chart("curves", names=False)
        yield Line(Content.styled(MIXED, "$text-warning"), id="mixed")
        yield Line(id="note")
        legend = Table[Entry](
            _columns(NAMES["-narrow"], at=False), self._cells, lambda entry: entry.curve.run.uid, id="legend"
        )
        legend.styles.height = min(LEGEND, len(self._runs) + 1) + 1  # and its border
        yield legend

    @property
    def _chart(self) -> Chart:
        return self.query_one(Chart)

    @property
    def _legend(self) -> Table[Entry]:
        return self.query_one("#legend", Table)

    # Reading and showing

    def read(self) -> Overlaid:
        """The curves as they are now."""
        if self._differs is None:
            settings = table.settings(self.session.ledger, [run.id for run in self._runs])
            self._differs = _what_differs(settings)
        return self._reading.read(self._metric, self._scale, smoothed=self._smoothed)

    def show(self, snapshot: Overlaid) -> None:
        """Curves and legend; a chart that is as it was sends nothing."""
        self._snapshot = snapshot
        self._metric = snapshot.metric
        self._chart.smoothed = snapshot.smoothed
        self.set_class(evidence.mixed(self._runs, snapshot.metric), "-mixed")
        self._show_legend()
        self._draw()

    def _draw(self) -> None:
        """The run under the cursor on top of the others."""
        front = self._legend.selected.curve if self._legend.selected else None
        others = [line.series for line in self._snapshot.lines if line.series and line is not front]
        on_top = [front.series] if front and front.series else []
        metric, scale = self._snapshot.metric, self._snapshot.scale
        empty = _empty(self._snapshot)
        self._chart.show([*others, *on_top], metric, scale, front=bool(others and on_top), empty=empty)
        self._tell()

    def _tell(self) -> None:
        """The run under the cursor in words, for where the legend is not shown."""
        chosen = self._legend.selected
        self.query_one("#note", Line).show(_told(chosen) if chosen else "")

    def _show_legend(self) -> None:
        cursor = self._chart.cursor
        longest = max((cell_len(line.run.name) for line in self._snapshot.lines), default=0)
        most = NAMES["-wide" if self.has_class("-wide") else "-narrow"]
        columns = _columns(min(most, longest), at=cursor is not None)
        differs = self._differs or {}
        entries = [
            Entry(line, _value(line.series, cursor), differs.get(line.run.id, "")) for line in self._snapshot.lines
        ]
        self._legend.show(entries, columns)

    def _cells(self, entry: Entry) -> tuple[Cell, ...]:
        line, series = entry.curve, entry.curve.series
        state = (states.SYMBOLS[line.run.state], states.STYLES[line.run.state])
        if series is None:
            return ("", line.run.name, state, "", "", "", "", (line.missing, "$text-warning"))
        return (
            ("━━", self._chart.colour(series.colour)),
            line.run.name,
            state,
            figures.value(entry.value),
            figures.value(line.best),
            figures.count(line.best_step),
            (str(series.gaps) if series.gaps else "", "$text-warning"),
            (entry.differs, "$foreground-muted"),
        )

    def on_table_moved(self, _: Table.Moved) -> None:
        """Another run on top."""
        self._draw()

    # What keys do

    def action_chart(self, by: int) -> None:
        """Another metric."""
        known = self._snapshot.metrics
        if known and self._metric is not None:
            place = known.index(self._metric) if self._metric in known else 0
            self._metric = known[(place + by) % len(known)]
            self.reread()

    def action_axis(self) -> None:
        """What lies along the bottom."""
        self._scale = SCALES[(SCALES.index(self._scale) + 1) % len(SCALES)]
        self.reread()

    def action_smooth(self) -> None:
        """Means, or points."""
        self._smoothed = not self._smoothed
        self.reread()

    def action_logarithmic(self) -> None:
        """Powers of ten, or plain."""
        self._chart.toggle_log()

    def action_cursor(self, cells: int) -> None:
        """Read values out."""
        self._chart.move_cursor(cells)
        self._show_legend()
        self._tell()

    def action_zoom(self) -> None:
        """All of the screen for the chart."""
        self.toggle_class("-zoomed")

    def action_diff(self) -> None:
        """Why their curves differ."""
        self.app.push_screen(DiffScreen(self.session, self._runs))

    def action_back(self) -> None:
        """Zoom first."""
        if self.has_class("-zoomed"):
            self.action_zoom()
        else:
            self.dismiss()


def _columns(name: int, *, at: bool) -> tuple[Column, ...]:
    return (
        Column("", 2),
        Column("name", max(8, name), keep_end=END),
        Column("", 1),
        Column("at" if at else "last", 6, right=True),
        Column("best", 6, right=True),
        Column("step", 5, right=True),
        Column("gaps", 4, right=True),
        Column("differs in", 8, stretch=True),
    )


def _value(series: Series | None, cursor: float | None) -> float | None:
    """The last value, or the newest up to the cursor."""
    if series is None or not len(series.values):
        return None
    place = len(series.values) if cursor is None else int(np.searchsorted(series.across, cursor, "right"))
    return float(series.values[place - 1]) if place else None


def _empty(snapshot: Overlaid) -> str:
    """Why there is nothing to draw, and what can be done about it."""
    if not any(line.best is not None for line in snapshot.lines):
        return f"none of these runs has {snapshot.metric}"
    return f"none of these runs counts {snapshot.scale.name}: _ draws over something else"


def _told(entry: Entry) -> str:
    line = entry.curve
    figured = f"{figures.value(entry.value)}, best {figures.value(line.best)} at step {figures.count(line.best_step)}"
    return f"{line.run.name}: {line.missing or figured}"


def _what_differs(settings: Mapping[int, Mapping[str, object]]) -> dict[int, str]:
    """For each run the settings in which it is not as the others, by the titles of their columns."""
    keys = [key for key in table.differing(settings.values()) if not key.startswith(UNTOLD)]
    return {
        run: "  ".join(f"{title(key)} {shortened(plain(facts.get(key)), VALUE)}" for key in keys)
        for run, facts in settings.items()
    }
