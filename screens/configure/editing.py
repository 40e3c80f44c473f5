"""Changing the profile: a value typed or chosen, a rung of the ladder taken, and every change taken back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual import work

from engine.fit.ladder import Rung
from engine.profile_fields import Field
from engine.profile_file import updated
from screens.configure import form, rungs
from screens.configure.draft import Draft, lookup, names_file
from screens.configure.fields import editable, typed
from screens.configure.form import Typing
from screens.configure.judged import JudgedPage
from screens.configure.presets import Preset
from screens.configure.suggestions import suggestions
from screens.widgets.table import Table


class EditingPage(JudgedPage):
    """`_take` is the screen's own: it asks before a change is lost."""

    async def _take(self, preset: Preset | None) -> None:
        """Begin from a preset."""
        raise NotImplementedError

    @work(group="edit", exclusive=True)
    async def action_edit(self) -> None:
        """Open what is under the cursor."""
        await self._open()

    async def _open(self) -> None:
        if self._view == "presets":
            await self._take(self._presets.selected)
        elif self._view == "ladder":
            self._take_rungs(self._taken_with(self._rungs.cursor))
        elif self._view == "form" and self.draft is not None and (row := self._form.selected):
            if row.field is None:
                self._folded ^= {row.section.name}
                self._draw()
            elif row.field.choices:
                self._cycle(row.field)
            else:
                await self._type(row.field)

    def _cycle(self, field: Field) -> None:
        assert self.draft is not None
        there = lookup(self.draft.values, field.key)
        now = field.default if there is None else there
        place = field.choices.index(now) if now in field.choices else -1
        self._change(self.draft.with_value(field.key, field.choices[(place + 1) % len(field.choices)]))

    async def _type(self, field: Field) -> None:
        """A line typed on the last line, checked at every key; a wrong value is not taken, nor lost."""
        assert self.draft is not None
        draft = self.draft
        text = editable(field, lookup(draft.values, field.key))
        offered = await self.attempt(lambda: suggestions(field.key, self.session.ledger, Path.cwd()))
        try:
            while True:
                self._preview(draft, field, text)
                given = await self.prompt(
                    f"{field.label} =",
                    text,
                    suggestions=offered or (),
                    on_change=lambda said: self._preview(draft, field, said),
                )
                if given is None:
                    return
                text = given
                value = typed(field, text)
                if not form.problem_at(field.key, draft.with_value(field.key, value).problems()):
                    if isinstance(value, str) and names_file(field.key):
                        self._change(draft.with_file_name(field.key, value, Path.cwd()))
                    else:
                        self._change(draft.with_value(field.key, value))
                    return
        finally:
            self._typing = self._tried = None
            self._change(self.draft)

    def action_ease(self) -> None:
        """Take the first rung of the ladder."""
        self._take_rungs(self._taken_with(0))

    def _take_rungs(self, taken: Sequence[Rung]) -> None:
        """Change what rungs change, all at once: one undo takes it back."""
        draft = self.draft
        if draft is None or not taken:
            self.say("There is nothing to take: no change that is known would make it fit, or faster.")
            return
        if draft.text != self._judged_text:
            self.say("The estimate is not of this profile yet.", "warning")
            return
        change = {key: value for rung in taken for key, value in rung.change.items()}
        self._change(draft.with_text(updated(draft.text, change)))
        self.say(f"Took {', '.join(map(rungs.change, taken))}. ctrl+u takes it back.")

    def _preview(self, draft: Draft, field: Field, text: str) -> None:
        """Show a text as it is typed, and what is wrong with it; judge what may stand."""
        tried = draft.with_value(field.key, typed(field, text))
        reason = form.problem_at(field.key, tried.problems())
        self._typing = Typing(field.key, text, reason)
        self._tried = None if reason else tried
        self._draw()
        self._judge_soon()

    def on_table_opened(self, _: Table.Opened) -> None:
        """A second click is enter."""
        self.action_edit()

    def action_undo(self) -> None:
        """One change back."""
        if self.draft is None or not self.draft.past:
            self.say("There is nothing to take back.")
        else:
            self._change(self.draft.undone())

    def action_redo(self) -> None:
        """One change forward."""
        if self.draft is None or not self.draft.future:
            self.say("Nothing was taken back.")
        else:
            self._change(self.draft.redone())

    def action_copy(self) -> None:
        """The text to the terminal's clipboard."""
        if self.draft is not None:
            self.app.copy_to_clipboard(self.draft.text)
            self.say("Copied the profile as TOML.")
