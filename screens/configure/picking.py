"""Choosing from lists that can be searched - presets, models - and reading: the page about a value, the file beside the form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from textual import work
from textual.containers import VerticalScroll
from textual.timer import Timer
from textual.worker import get_current_worker

from engine import hub
from engine.bases import Base, bases
from engine.errors import Problem
from engine.fit import cards
from engine.fit.alternatives import least
from engine.fit.estimate import GpuFit, this_cpu
from engine.hub import Download
from engine.resolve import cards_for
from engine.storage import free_bytes
from screens.configure import field_help, models, presets, text
from screens.configure.draft import Draft, lookup
from screens.configure.editing import EditingPage
from screens.configure.models import Choice
from screens.configure.presets import Preset
from screens.session import Session
from screens.widgets.line import Line
from screens.widgets.table import Table

MODEL: Final = "model.base"
PAUSE: Final = 0.4  # seconds that the cursor rests on a model before the hub is asked about it


class PickingPage(EditingPage):
    """`_sought` holds what was searched for, by view."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._sought: dict[str, str] = {}
        self._presets_read: tuple[Preset, ...] = ()
        self._bases: tuple[Base, ...] | None = None
        self._asked: dict[str, Download | Problem] = {}
        self._needs: Mapping[str, GpuFit] = {}
        self._free: int | None = None
        self._asking: Timer | None = None
        self._file_beside = False

    @property
    def _models(self) -> Table[Choice]:
        return self.query_one("#models", Table)

    # Lists

    def show(self, snapshot: tuple[Preset, ...]) -> None:
        """Presets that pass what is searched for."""
        self._presets_read = snapshot
        super().show(presets.sought(snapshot, self._sought.get("presets", "")))

    def _show_lists(self) -> None:
        if self._view == "presets":
            self._presets.show(presets.sought(self._presets_read, self._sought.get("presets", "")))
        elif self._view == "models" and self._bases is not None:
            self._models.show(models.choices(self._bases, self._sought.get("models", ""), self._needs))
            self._draw_about()

    def action_view(self, view: str) -> None:
        """Besides the others: the models, looked for anew each time; on a wide screen the file stands beside the form."""
        if view == "toml" and self._view in ("form", "toml") and self.has_class("-wide") and self.draft is not None:
            self._file_beside = not self._file_beside
            view = "form" if self._view == "toml" else self._view
            if view == self._view:
                self._draw()
                return
        self._sought.pop(view, None)
        super().action_view(view)
        if self._view == "models":
            self._asked = {name: found for name, found in self._asked.items() if isinstance(found, Download)}
            self._look_for_models()

    @work(group="models", exclusive=True)
    async def _look_for_models(self) -> None:
        """What there is first, then what the profile would need with each."""
        found = await self.attempt(lambda: bases(self.session.ledger, Path.cwd()))
        if found is None or not self.query("#models"):
            return
        self._bases = found
        self._show_lists()
        now = "" if self.draft is None else lookup(self.draft.values, MODEL)
        place = next((n for n, choice in enumerate(self._models.rows) if choice.name == now and now), None)
        if place is not None:
            self._models.move_to(place)
        self._free = await self.attempt(lambda: free_bytes(_hub_folder()))
        self._needs = await self.attempt(lambda: self._needed(found)) or {}
        if self.query("#models"):
            self._show_lists()

    def _needed(self, found: Sequence[Base]) -> dict[str, GpuFit]:
        """What each would need of the GPU that the profile is judged for."""
        judged = self._judgement
        if judged is None or judged.profile is None or judged.facts is None:
            return {}
        there = (cards.named(judged.elsewhere),) if judged.elsewhere else cards_for(judged.profile, judged.gpus)
        card = max(there, key=lambda one: one.free_mib, default=None) or this_cpu()
        return least(judged.profile, judged.facts, card, found)

    @work(group="edit", exclusive=True)
    async def action_find(self) -> None:
        """Words that must occur, applied as they are typed; esc brings back what was searched for before."""
        view = self._view
        if view not in ("presets", "models"):
            self.say("p shows presets, enter on base the models: there is something to search in.")
            return
        before = self._sought.get(view, "")

        def apply(given: str) -> None:
            self._sought[view] = given
            self._show_lists()

        given = await self.prompt("/", before, on_change=apply)
        apply(before if given is None else given)

    # Choosing a model

    async def _open(self) -> None:
        row = self._form.selected if self._view == "form" else None
        if self._view == "models":
            await self._take_model(self._models.selected)
        elif row is not None and row.field is not None and row.field.key == MODEL:
            self.action_view("models")
        else:
            await super()._open()

    async def _take_model(self, choice: Choice | None) -> None:
        if choice is None or self.draft is None:
            return
        if choice.name:
            name = choice.name
            self.action_view("form")
            self._change(
                self.draft.with_file_name(MODEL, name, Path.cwd())
                if "/" in name[:2]
                else self.draft.with_value(MODEL, name)
            )
            return
        row = next((row for row in self._form.rows if row.key == MODEL), None)
        self.action_view("form")
        if row is not None and row.field is not None:
            await self._type(row.field)

    def on_table_moved(self, event: Table.Moved) -> None:
        """Another model is to be told about; the hub is asked when the cursor rests on one that is not here."""
        super().on_table_moved(event)
        if event.table is not self._models:
            return
        self._draw_about()
        if self._asking is not None:
            self._asking.stop()
        self._asking = self.set_timer(PAUSE, self._ask_hub)

    def _ask_hub(self) -> None:
        choice = self._models.selected if self.query("#models") and self._view == "models" else None
        if (
            choice is not None
            and choice.name
            and choice.name not in self._asked
            and not (choice.base and choice.base.here)
        ):
            self._ask_about(choice.name)

    @work(thread=True, exclusive=True, group="hub")
    def _ask_about(self, name: str) -> None:
        worker = get_current_worker()
        found: Download | Problem
        try:
            found = hub.check(name)
        except Problem as problem:
            found = problem
        except (OSError, ValueError, LookupError) as error:  # what is in the cache is damaged
            found = Problem(f"{name} cannot be looked at", f"{error}.", "Delete it from the hub's cache.")
        if not worker.is_cancelled:
            self.app.call_from_thread(self._hub_said, name, found)

    def _hub_said(self, name: str, found: Download | Problem) -> None:
        self._asked[name] = found
        choice = self._models.selected if self.query("#models") else None
        if self._view == "models" and choice is not None and choice.name == name:
            self._draw_about()

    # Reading

    def _draw_about(self) -> None:
        if self._view == "models":
            choice = self._models.selected
            asked = self._asked.get(choice.name) if choice else None
            self.query_one("#about", Line).show(models.about(choice, asked, self._free))
        else:
            super()._draw_about()
            if self._file_beside:
                self._draw_file_beside()

    def _draw(self) -> None:
        super()._draw()
        if self.draft is not None and self.query("#lines"):
            self._draw_text(self.draft)

    def _draw_text(self, draft: Draft) -> None:
        """What is read in place of the form."""
        lines = self.query_one("#lines", Line)
        if self._view == "toml":
            lines.show(text.toml(draft))
        elif self._view == "diff":
            lines.show(text.diff(draft))
        elif self._view == "why":
            lines.show(field_help.page(self._form.selected, draft, self._left_width()))

    def _draw_estimate(self) -> None:
        super()._draw_estimate()
        beside = self._file_beside and self.has_class("-wide") and self._view != "estimate" and self.draft is not None
        self.query_one("#file_beside").display = beside
        if beside or (
            not self.has_class("-wide") and self._view not in ("form", "ladder")
        ):  # there what is read needs the room
            self.query_one("#beside").display = False
        if beside:
            self._draw_file_beside()

    def _draw_file_beside(self) -> None:
        """The file, with the value under the cursor in sight."""
        draft, row = self.draft, self._form.selected
        pane = self.query_one("#file_beside", VerticalScroll)
        if draft is None or not pane.display:
            return
        key = row.key if row is not None else ""
        pane.query_one(Line).show(text.toml(draft, key))
        place = text.place(draft, key) if key else None
        if place is not None:
            pane.scroll_to(y=max(0, place - pane.size.height // 2), animate=False)

    def _left_width(self) -> int:
        return (self.size.width * 3 // 5 if self.has_class("-wide") else self.size.width) - 4


def _hub_folder() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)
