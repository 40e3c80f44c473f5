"""What the Configure screen shows: form or presets or text, verdict and estimate, drawn from a draft and its judgement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from textual.app import ComposeResult
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content

from engine.fit.ladder import Rung
from screens.configure import form, models, presets, rungs, told, verdict
from screens.configure.draft import Draft
from screens.configure.form import Row, Typing
from screens.configure.judging import Judgement
from screens.configure.pane import EstimatePane
from screens.configure.presets import Preset
from screens.session import Session
from screens.widgets.cells import Column
from screens.widgets.line import Line, shortened
from screens.widgets.page import Page
from screens.widgets.table import Table

PRESET_COLUMNS: Final = (Column("from", 8), Column("name", 30), Column("", 20, stretch=True))
NO_ESTIMATE: Final = "There is no estimate yet: the first line says why. esc goes back to the form."
WIDGETS: Final = {
    "form": "#form",
    "presets": "#presets",
    "ladder": "#ladder",
    "estimate": "#whole",
    "toml": "#text",
    "diff": "#text",
    "why": "#text",
    "models": "#models",
}
"""What stands on the left side in each view."""


class ConfigurePage(Page[tuple[Preset, ...]]):
    """`_view` is what the left side shows: form, presets, ladder, toml, diff, or (zoomed) all of the estimate."""

    NAME = "configure"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.draft: Draft | None = None
        self._view = "presets"
        self._folded = frozenset({"model", "data.0", "template", "split", "hardware", "evaluation"})
        self._typing: Typing | None = None
        self._judgement: Judgement | None = None
        self._elsewhere = ""
        self._started = ""  # the text of the newest run's profile: that run keeps it

    def compose_body(self) -> ComposeResult:
        """Verdict and file, the form or what stands in its place, and the estimate."""
        yield Line(id="verdict")
        yield Line(id="file")
        with Container(id="body"):
            with Vertical(id="left"):
                yield Table[Row](form.COLUMNS, lambda row: row.cells, lambda row: row.key, id="form")
                yield Table[Preset](PRESET_COLUMNS, _preset_cells, lambda preset: preset.key, id="presets")
                yield Table[models.Choice](models.COLUMNS, models.cells, lambda choice: choice.key, id="models")
                yield Table[Rung](rungs.COLUMNS, rungs.cells, rungs.key, id="ladder")
                with VerticalScroll(id="text"):
                    yield Line(id="lines")
                with VerticalScroll(id="whole"):
                    yield EstimatePane(id="estimate")
                yield Line(id="about")
            yield EstimatePane(id="beside")
            with VerticalScroll(id="file_beside"):
                yield Line()

    def on_mount(self) -> None:
        """Begin with the presets. Textual calls the page's own `on_mount` too."""
        self.query_one("#beside", EstimatePane).display = False
        self.action_view("presets")

    @property
    def unsaved(self) -> str:
        """Changes that neither a file nor a run has."""
        draft = self.draft
        if draft is None or not draft.changed or draft.text == self._started:
            return ""
        count = len(draft.differences())
        return f"{count} change{'s' if count > 1 else ''} to {draft.name}"

    @property
    def _form(self) -> Table[Row]:
        return self.query_one("#form", Table)

    @property
    def _presets(self) -> Table[Preset]:
        return self.query_one("#presets", Table)

    @property
    def _rungs(self) -> Table[Rung]:
        return self.query_one("#ladder", Table)

    # Reading and showing

    def read(self) -> tuple[Preset, ...]:
        """The presets, while they are chosen from."""
        return presets.presets(self.session.ledger, Path.cwd()) if self._view == "presets" else ()

    def show(self, snapshot: tuple[Preset, ...]) -> None:
        """Presets; and the time at which it would end, which goes on with the clock."""
        if not self.query("#presets"):  # the application is closing
            return
        if self._view == "presets":
            self._presets.show(snapshot)
        if self.draft is not None:
            self._draw_verdict(self.draft.problems())

    def _draw(self) -> None:
        """Everything, from the draft and its judgement; only what differs is sent."""
        if not self.query("#verdict"):  # the application is closing
            return
        if self.draft is None:
            self.query_one("#verdict", Line).show(Content.styled("Nothing is being configured.", "bold"))
            self.query_one("#file", Line).show("Choose what to begin from: enter takes it.")
            return
        problems = self.draft.problems()
        self._draw_verdict(problems)
        self.query_one("#file", Line).show(self._file_line())
        self._form.show(form.rows(self.draft, self._folded, problems, self._typing))
        self._draw_estimate()

    def _draw_judgement(self) -> None:
        """What a new judgement changes."""
        if self.draft is not None and self.query("#verdict"):
            self._draw_verdict(self.draft.problems())
            self.query_one("#file", Line).show(self._file_line())
            self._draw_estimate()

    def _draw_verdict(self, problems: Mapping[str, str]) -> None:
        told_now = verdict.verdict(self._judgement, problems, self.session.clock(), self.size.width - 2)
        self.query_one("#verdict", Line).show(told_now)

    def _file_line(self) -> str:
        """Where it came from and what was changed; what is known of its data."""
        assert self.draft is not None
        count = len(self.draft.differences())
        name = self.draft.name if self.draft.own else f"like {self.draft.name}"
        kept = ", not saved" if self.draft.own else ""
        changed = f"{count} value{'s differ' if count > 1 else ' differs'}{kept}" if count else "nothing changed"
        facts = self._judgement.facts if self._judgement else None
        return shortened(f"{name}, {changed}" + (f" · {told.rows(facts)}" if facts else ""), self.size.width - 2)

    def _draw_about(self) -> None:
        """What is to be known of what is under the cursor."""
        line, problems = self.query_one("#about", Line), self.draft.problems() if self.draft else {}
        row = self._form.selected if self._view == "form" else None
        wrong = self._typing.reason if self._typing else form.problem_at(row.key, problems) if row else ""
        if wrong:
            line.show(Content.styled(f"✗ {wrong}", "$text-error"))
        elif row is not None and self.draft is not None:
            line.show(form.about(row, self.draft))
        elif self._view == "ladder" and problems:
            line.show("A value is wrong: there is no estimate of this profile. esc goes back to the form.")
        elif self._view == "ladder":
            known = self._judgement is not None and self._judgement.best is not None
            taken = self._taken_with(self._rungs.cursor)
            line.show(rungs.about(self._rungs.selected, taken) if known else NO_ESTIMATE)
        else:
            line.show("")

    def _draw_estimate(self) -> None:
        """Ladder, and what is under or beside the form, or all of it where that is zoomed."""
        judgement, wide = self._judgement, self.has_class("-wide")
        pane, zoomed = self.query_one("#beside", EstimatePane), self._view == "estimate"
        width = (self.size.width * 2 // 5 - 3) if wide else self.size.width - 2
        there = self.draft is not None and judgement is not None and judgement.best is not None
        pane.display = there and not zoomed
        now = self.session.clock()
        pane.tell(lambda colour: told.beside(judgement, width, colour, now, full=wide), (judgement, width, wide))
        wrong = bool(self.draft and self.draft.problems())
        pane.set_class(wrong, "-stale")
        if zoomed:
            whole = self.query_one("#estimate", EstimatePane)
            empty = Content.styled(NO_ESTIMATE, "$foreground-muted")
            room = self.size.width - 4
            whole.tell(
                lambda colour: told.beside(judgement, room, colour, now, full=True) if there else empty,
                (judgement, room, there),
            )
        self._rungs.show(judgement.best.ladder if judgement and judgement.best and not wrong else ())
        self._draw_about()

    def _taken_with(self, place: int) -> tuple[Rung, ...]:
        """The rungs that are taken with the one at a place: where they stand on top of each other, those before it too."""
        best = self._judgement.best if self._judgement else None
        if best is None or not best.ladder:
            return ()
        return best.ladder[place : place + 1] if best.fits else best.ladder[: place + 1]

    def on_resize(self) -> None:
        """Beside or under: both fit their width."""
        self.call_after_refresh(self._draw)

    def on_table_moved(self, event: Table.Moved) -> None:
        """Another value is to be told about."""
        if event.table in (self._form, self._rungs):
            self._draw_about()

    def action_zoom(self) -> None:
        """All of the estimate in place of the form."""
        self.action_view("estimate")

    def action_view(self, view: str) -> None:
        """Show the form or something else in its place; the same key again leads back."""
        if self.draft is None:
            view = "presets"
        elif view == self._view:
            view = "form"
        self._view = view
        self.set_class(view in ("form", "ladder"), "-steady")  # what is told of a line moves no line
        for widget in dict.fromkeys(WIDGETS.values()):
            self.query_one(widget).display = widget == WIDGETS[view]
        self.set_focus(self.query_one(WIDGETS[view]))
        self._draw()
        self.refresh_keys()
        self.reread()


def _preset_cells(preset: Preset) -> tuple[tuple[str, str] | str, ...]:
    return (preset.kind, "$foreground-muted"), preset.name, (preset.about, "$foreground-muted")
