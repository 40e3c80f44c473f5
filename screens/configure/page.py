"""What the Configure screen shows: form or presets or text, verdict and estimate, drawn from a draft and its judgement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from textual import work
from textual.app import ComposeResult
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.worker import Worker, WorkerState, get_current_worker

from engine.errors import Problem
from engine.gpu import Gpu
from screens.configure import form, presets, told
from screens.configure.draft import Draft
from screens.configure.form import Row, Typing
from screens.configure.judging import Judge, Judgement
from screens.configure.presets import Preset
from screens.session import Session
from screens.widgets.cells import Column
from screens.widgets.line import Line
from screens.widgets.page import Page
from screens.widgets.table import Table

PAUSE: Final = 0.25  # seconds without a change before the profile is judged
NOTICED_MIB: Final = 512.0  # of free GPU memory: less of a change is no reason to judge again
PRESET_COLUMNS: Final = (Column("from", 8), Column("name", 30), Column("", 20, stretch=True))
NO_ESTIMATE: Final = "There is no estimate yet: the first line says why. esc goes back to the form."


class ConfigurePage(Page[tuple[Preset, ...]]):
    """`view` is what the left side shows: form, presets, toml, diff or ladder."""

    NAME = "configure"

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.draft: Draft | None = None
        self._view = "presets"
        self._folded = frozenset({"model", "data.0", "template", "split", "hardware", "evaluation"})
        self._typing: Typing | None = None
        self._judge = Judge(session.ledger)
        self._judgement: Judgement | None = None
        self._elsewhere = ""
        self._started = ""  # the text of the newest run's profile: that run keeps it
        self._timer: Timer | None = None
        self._seen: tuple[object, ...] = ()

    def compose_body(self) -> ComposeResult:
        """Verdict and file, the form or what stands in its place, and the estimate."""
        yield Line(id="verdict")
        yield Line(id="file")
        with Container(id="body"):
            with Vertical(id="left"):
                yield Table[Row](form.COLUMNS, lambda row: row.cells, lambda row: row.key, id="form")
                yield Table[Preset](PRESET_COLUMNS, _preset_cells, lambda preset: preset.key, id="presets")
                with VerticalScroll(id="text"):
                    yield Line(id="lines")
                yield Line(id="about")
            yield Line(id="beside")

    def on_mount(self) -> None:
        """Begin with the presets. Textual calls the page's own `on_mount` too."""
        self.query_one("#beside", Line).display = False
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

    # Reading and showing

    def read(self) -> tuple[Preset, ...]:
        """The presets, while they are chosen from."""
        return presets.presets(self.session.ledger, Path.cwd()) if self._view == "presets" else ()

    def show(self, snapshot: tuple[Preset, ...]) -> None:
        """Presets; and another judgement when a GPU has another amount of memory free."""
        if not self.query("#presets"):  # the application is closing
            return
        if self._view == "presets":
            self._presets.show(snapshot)
        seen = tuple((gpu.uuid, round((gpu.free_mib or 0) / NOTICED_MIB)) for gpu in self.gpus)
        if seen != self._seen:
            self._seen = seen
            self._judge_soon()
        if self.draft is not None:  # the time at which it would end goes on with the clock
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
        self._draw_about()
        self._draw_text()
        self._draw_beside()

    def _draw_verdict(self, problems: Mapping[str, str]) -> None:
        self.query_one("#verdict", Line).show(told.verdict(self._judgement, problems, self.session.clock()))

    def _file_line(self) -> str:
        assert self.draft is not None
        count = len(self.draft.differences())
        where = self.draft.name if self.draft.own else f"like {self.draft.name}"
        if not count:
            return f"{where}, nothing changed"
        kept = ", not saved" if self.draft.own else ""
        return f"{where}, {count} value{'s differ' if count > 1 else ' differs'}{kept}"

    def _draw_about(self) -> None:
        line = self.query_one("#about", Line)
        if self._typing and self._typing.reason:
            line.show(Content.styled(f"✗ {self._typing.reason}", "$text-error"))
        else:
            shown = form.about(self._form.selected, self.draft) if self.draft and self._view == "form" else ""
            line.show(shown)

    def _draw_text(self) -> None:
        assert self.draft is not None
        lines = self.query_one("#lines", Line)
        if self._view == "toml":
            lines.show(self.draft.text.rstrip())
        elif self._view == "diff":
            lines.show(_coloured(self.draft.diff()))
        elif self._view == "ladder":
            made = told.beside(self._judgement, self.size.width - 4, wide=True, ladder=True)
            lines.show(made if made.plain else Content.styled(NO_ESTIMATE, "$foreground-muted"))

    def _draw_beside(self) -> None:
        pane = self.query_one("#beside", Line)
        wide = self.has_class("-wide")
        pane.show(told.beside(self._judgement, self.size.width - 4, wide=wide, ladder=False))
        judged = self.draft is not None and self._judgement is not None and bool(self._judgement.fits)
        pane.display = judged and self._view != "ladder"
        pane.set_class(bool(self.draft and self.draft.problems()), "-stale")

    def on_resize(self) -> None:
        """Beside or under: both fit their width."""
        self.call_after_refresh(self._draw)

    def on_table_moved(self, event: Table.Moved) -> None:
        """Another value is to be told about."""
        if event.table is self._form:
            self._draw_about()

    def action_view(self, view: str) -> None:
        """Show the form or something else in its place; the same key again leads back."""
        if self.draft is None:
            view = "presets"
        elif view == self._view:
            view = "form"
        self._view = view
        self.set_class(view == "presets", "-presets")
        self.set_class(view in ("toml", "diff", "ladder"), "-text")
        shown_widget = {"form": "#form", "presets": "#presets"}.get(view, "#text")
        self.set_focus(self.query_one(shown_widget))
        self._draw()
        self.refresh_keys()
        self.reread()

    # Judging

    def _change(self, draft: Draft) -> None:
        """Another draft: draw it at once, judge it soon."""
        self.draft = draft
        self._draw()
        self._judge_soon()

    def _judge_soon(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(PAUSE, self._judge_now)

    def _judge_now(self) -> None:
        if self.draft is None or self.draft.problems():
            return
        self._ask_judge(self.draft, self.gpus, self._elsewhere)

    @work(thread=True, exclusive=True, group="judge", exit_on_error=False)
    def _ask_judge(self, draft: Draft, gpus: tuple[Gpu, ...], elsewhere: str) -> None:
        worker = get_current_worker()
        try:
            found = self._judge.judge(draft.profile(), gpus, elsewhere, lambda: worker.is_cancelled)
        except Problem as problem:
            found = Judgement(problem=problem)
        if found is not None and not worker.is_cancelled:
            self.app.call_from_thread(self._judged, found)

    def _judged(self, judgement: Judgement) -> None:
        self._judgement = judgement
        self._draw()

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A bug in the estimate must not look like one that still works on it."""
        if event.worker.group == "judge" and event.state is WorkerState.ERROR:
            self._judged(
                Judgement(problem=Problem("The estimate failed", f"{event.worker.error}.", "R starts it all the same."))
            )


def _preset_cells(preset: Preset) -> tuple[tuple[str, str] | str, ...]:
    return (preset.kind, "$foreground-muted"), preset.name, (preset.about, "$foreground-muted")


def _coloured(lines: list[str]) -> Content:
    """A diff with what went in red and what came in green."""
    styles = {"+": "$text-success", "-": "$text-error", "@": "$foreground-muted"}
    parts = [(line + "\n", styles.get(line[:1], "")) for line in lines]
    return Content.assemble(*parts) if parts else Content.styled("Nothing differs.", "$foreground-muted")
