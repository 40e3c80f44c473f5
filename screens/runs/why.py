"""Which setting mattered for a metric, over the runs that were shown: correlation, and what a forest owes to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.content import Content
from textual.events import Resize

from engine.ledger import evidence, forest, importance, verdict
from engine.ledger.best import higher_is_better
from engine.ledger.evidence import Evidence, Which
from engine.ledger.importance import Setting, Study
from engine.ledger.runs import Run
from screens.commands import Command
from screens.runs import reasons
from screens.session import Session
from screens.widgets import figures
from screens.widgets.cells import Cell, Column
from screens.widgets.line import Line
from screens.widgets.page import Page
from screens.widgets.table import Table

SETTING: Final = 18  # columns of a setting's name in any case
BEST: Final = 15  # and of the values that the best runs had
GROWING: Final = "A forest is being grown ..."
BAR: Final = 6  # cells of a whole share


@dataclass(frozen=True, eq=False)
class Shown:
    """A metric, the runs' values of it, and what they say. `grown` says that there will be no more of a forest."""

    metric: str
    which: Which
    evidence: Evidence
    study: Study
    grown: bool


class WhyScreen(Page[Shown]):
    """Settings by how much they have to do with a metric."""

    NAME = "runs"
    TITLE = "Why"
    VERBS = (
        Command("why.previous", "[", "metric", "Ask about the metric before this one.", "metric(-1)", show=False),
        Command("why.next", "]", "metric", "Ask about the next metric: its best, then its last value.", "metric(1)"),
        Command("why.back", "escape", "back", "Back to the runs.", "dismiss"),
    )
    CSS = """
    WhyScreen #title, WhyScreen #warnings { height: auto; padding: 0 1; }
    WhyScreen #values { height: auto; max-height: 10; padding: 0 1; border-top: solid $panel; }
    """

    def __init__(self, session: Session, runs: Sequence[Run], metric: str) -> None:
        super().__init__(session)
        self._runs = tuple(runs)
        self._asked: tuple[str, Which] = (metric, "best")
        self._metrics: list[str] = []
        self._told: Shown | None = None  # the thread's: what was found last
        self._snapshot: Shown | None = None  # what stands on the screen
        self._closed = False

    def compose_body(self) -> ComposeResult:
        """The answer in words, what is to be said against it, settings, the values of the selected one."""
        words = f"asking {len(self._runs)} runs about {self._asked[0]} ..."
        yield Line(Content.styled(words, "bold"), id="title")
        yield Line(id="warnings")
        yield Table[Setting](_columns(()), _cells, lambda setting: setting.names[0])
        yield Line(id="values")

    # Reading and showing

    def read(self) -> Shown:
        """At first what is quickly counted; asked again, the forest too. Nothing is asked twice."""
        metric, which = asked = self._asked
        shown = self._told
        if shown is None or (shown.metric, shown.which) != asked:
            ledger = self.session.ledger
            self._metrics = self._metrics or evidence.metrics_of(ledger, self._runs)
            found = evidence.gathered(ledger, self._runs, metric, which)
            higher = higher_is_better(metric)
            study = importance.study(found.settings, found.values, higher_is_better=higher)
            shown = Shown(metric, which, found, study, grown=study.runs < forest.LEAST or not study.settings)
        elif not shown.grown:
            study = forest.grown(shown.study, lambda: self._closed or self._asked != asked)
            shown = Shown(metric, which, shown.evidence, study, grown=self._asked == asked)
        self._told = shown
        return shown

    def show(self, snapshot: Shown) -> None:
        """Words, then figures; the forest is asked for once these stand."""
        self._snapshot, study = snapshot, snapshot.study
        answer = verdict.answer(snapshot.metric, snapshot.which, study)
        self.query_one("#title", Line).show(Content.styled(answer, "bold"))
        lines = [Content.styled(f"! {each}", "$text-warning") for each in verdict.warnings(snapshot.evidence, study)]
        if study.settings:
            lines.append(Content.styled(verdict.forest_words(study) if snapshot.grown else GROWING, reasons.MUTED))
        lines.append(Content.styled(verdict.left_out(snapshot.evidence, study), reasons.MUTED))
        self.query_one("#warnings", Line).show(Content("\n").join(line for line in lines if line.plain))
        table = self.query_one(Table)
        first = table.cursor == 0
        self._lay_out(verdict.strongest(study))
        if first:  # nobody has chosen: the one that mattered most
            table.move_to(0)
        self._show_values()
        if not snapshot.grown:
            self.reread()

    def _lay_out(self, settings: Sequence[Setting]) -> None:
        wide = self.has_class("-wide")
        self.query_one(Table).show(settings, _columns(settings if wide else ()))

    def _show_values(self) -> None:
        shown, setting = self._snapshot, self.query_one(Table).selected
        lines = reasons.by_value(shown.evidence, shown.study, setting) if shown and setting else []
        self.query_one("#values", Line).show(Content("\n").join(lines))

    def on_table_moved(self, _: Table.Moved) -> None:
        """Another setting's values."""
        self._show_values()

    def on_resize(self, _: Resize) -> None:
        """Other lines wrap, other columns fit."""
        self._lay_out(self.query_one(Table).rows)
        self.call_after_refresh(self._show_values)

    def on_unmount(self) -> None:
        """A forest that still grows is left. Textual calls the page's own `on_unmount` too."""
        self._closed = True

    # What keys do

    def action_metric(self, by: int) -> None:
        """The best of a metric, then its last value, then the next one's."""
        known: list[tuple[str, Which]] = [(name, which) for name in self._metrics for which in ("best", "last")]
        if known:
            place = known.index(self._asked) if self._asked in known else -1
            self._asked = known[(place + by) % len(known)]
            self.reread()


def _columns(settings: Sequence[Setting]) -> tuple[Column, ...]:
    """As wide as what these need; without any, as narrow as can be, the settings with what is left over."""
    setting = max((cell_len(_called(each)) for each in settings), default=SETTING)
    best = max((cell_len(reasons.best(each)) for each in settings), default=BEST)
    return (
        Column("setting", max(SETTING, setting), stretch=not settings),
        Column("more is", 7),
        Column("corr.", 5, right=True),
        Column("95 %", 9, right=True),
        Column("forest", 6, right=True),
        Column("", 6),
        Column("best with", max(BEST, best)),
    )


def _called(setting: Setting) -> str:
    return " = ".join(setting.names)


def _cells(setting: Setting) -> tuple[Cell, ...]:
    style = "" if setting.clear or (setting.share or 0.0) > verdict.TENTH else reasons.MUTED
    share = setting.share
    return (
        (_called(setting), style),
        reasons.direction(setting),
        (reasons.strength(setting), style),
        (reasons.interval(setting), reasons.MUTED),
        figures.percent(share),
        ("█" * round((share or 0.0) * BAR), "$text-accent"),
        reasons.best(setting),
    )
