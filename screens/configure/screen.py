"""The Configure screen: a profile as a form, judged while it is changed, saved as a file or started as a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from textual import work
from textual.message import Message

from engine import launch
from engine.atomic import write_text
from engine.fit import cards
from engine.ledger.runs import Run
from engine.profile_file import dump
from engine.profile_file import problems as problems_of
from engine.resolve import Resolved
from screens.commands import Command
from screens.configure import form, presets
from screens.configure.draft import Draft, lookup, names_file
from screens.configure.fields import Field, editable, shown, typed
from screens.configure.form import Typing
from screens.configure.page import ConfigurePage
from screens.configure.presets import Preset
from screens.configure.suggestions import suggestions
from screens.messages import ConfigureFrom, LookAtData, WatchRun
from screens.widgets.table import Table


class ConfigureScreen(ConfigurePage):
    """What the keys do."""

    VERBS = (
        Command(
            "configure.edit", "enter", "edit", "Change the value, open or close the section, take the preset.", "edit"
        ),
        Command("configure.run", "R", "run", "Start a run of this profile.", "launch(False)"),
        Command("configure.queue", "Q", "queue", "Start a run that waits until its GPU is free.", "launch(True)"),
        Command(
            "configure.presets", "p", "presets", "Begin from a profile that ships, a file, or a run.", "view('presets')"
        ),
        Command("configure.ladder", "L", "ladder", "Show what would make it fit, or faster.", "view('ladder')"),
        Command("configure.gpu", "u", "GPU", "Judge the profile for the next GPU.", "next_gpu"),
        Command("configure.toml", "v", "TOML", "Show the profile as a file.", "view('toml')"),
        Command("configure.diff", "d", "diff", "Show what differs from what it began as.", "view('diff')"),
        Command("configure.save", "w", "save", "Save the profile as a file.", "save"),
        Command(
            "configure.data", "o", "open data", "Show the data on Data, as this profile sees them.", "look_at_data"
        ),
        Command("configure.undo", "ctrl+u", "undo", "Take the last change back.", "undo"),
        Command("configure.redo", "ctrl+r", "redo", "Make the change again that was taken back.", "redo", show=False),
        Command("view.copy", "y", "copy", "Copy the profile as TOML.", "copy", show=False),
        Command("configure.back", "escape", "back", "Back to the form.", "view('form')", show=False),
    )

    CSS = """
    ConfigureScreen #verdict { height: auto; max-height: 2; padding: 0 1; }
    ConfigureScreen #file { height: 1; padding: 0 1; color: $text-muted; }
    ConfigureScreen #body { layout: vertical; height: 1fr; }
    ConfigureScreen #left { height: 1fr; }
    ConfigureScreen #about { height: 2; padding: 0 1; color: $text-muted; }
    ConfigureScreen #beside { height: auto; max-height: 8; padding: 0 1; border-top: solid $panel; }
    ConfigureScreen #beside.-stale { text-opacity: 50%; }
    ConfigureScreen.-wide #body { layout: horizontal; }
    ConfigureScreen.-wide #left { width: 3fr; }
    ConfigureScreen.-wide #beside { width: 2fr; height: 1fr; max-height: 100%; border-top: none; border-left: solid $panel; }
    ConfigureScreen #text { display: none; padding: 0 1; }
    ConfigureScreen #presets { display: none; }
    ConfigureScreen.-presets #presets, ConfigureScreen.-text #text { display: block; }
    ConfigureScreen.-presets #form, ConfigureScreen.-text #form { display: none; }
    """

    _starting = False

    def verbs(self) -> list[Command]:
        """While presets are chosen from, enter takes one; before there is a profile nothing else means anything."""
        found = list(super().verbs())
        if self._view != "presets":
            return found
        take = replace(found[0], label="take")
        return [take, *found[1:]] if self.draft else [take]

    def action_next_gpu(self) -> None:
        """GPUs here: the next one, then any. None here: the next kind that is known, then the CPU."""
        if self.draft is None:
            return
        if self.gpus:
            there: list[object] = ["auto", *([gpu.index] for gpu in self.gpus)]
            now = lookup(self.draft.values, "hardware.gpus") or "auto"
            following = there[(there.index(now) + 1) % len(there)] if now in there else "auto"
            self._change(self.draft.with_value("hardware.gpus", following))
            self.say(f"hardware.gpus = {shown(following)}")
        else:
            kinds = ["", *(spec.name for spec in cards.specs())]
            self._elsewhere = kinds[(kinds.index(self._elsewhere) + 1) % len(kinds)]
            self.say(
                f"Judged for {self._elsewhere}, which is not here." if self._elsewhere else "Judged for the CPU here."
            )
            self._judge_now()

    # Editing

    @work(group="edit", exclusive=True)
    async def action_edit(self) -> None:
        """Open what is under the cursor."""
        if self._view == "presets":
            await self._take(self._presets.selected)
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
                if not _reason(draft, field, text):
                    value = typed(field, text)
                    if isinstance(value, str) and names_file(field.key):
                        self._change(draft.with_file_name(field.key, value, Path.cwd()))
                    else:
                        self._change(draft.with_value(field.key, value))
                    return
        finally:
            self._typing = None
            self._draw()

    def _preview(self, draft: Draft, field: Field, text: str) -> None:
        """Show a text as it is typed, and what is wrong with it."""
        self._typing = Typing(field.key, text, _reason(draft, field, text))
        self._draw()

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

    @work(group="edit", exclusive=True)
    async def action_look_at_data(self) -> None:
        """All data of the profile, on Data."""
        if self.draft is None:
            self.say("Choose a profile first.", "warning")
        elif profile := await self.attempt(self.draft.profile):
            self.post_message(LookAtData(profile.data[0].source, dump(profile)))

    # Beginning, saving, starting

    def receive(self, message: Message) -> None:
        """Another screen gives something to begin from."""
        if isinstance(message, ConfigureFrom):
            self._begin(message.path, message.run_uid)

    @work(group="edit", exclusive=True)
    async def _begin(self, path: Path | None, run_uid: str | None) -> None:
        if run_uid is not None:
            await self._take(Preset("run", "", "", run_uid))
        elif path is not None:
            await self._take(Preset("file", path.name, "", str(path)))

    async def _take(self, preset: Preset | None) -> None:
        if preset is None:
            return
        if self.unsaved and not await self.ask(f"Discard {self.unsaved}?"):
            return
        if draft := await self.attempt(lambda: presets.opened(preset, self.session.ledger)):
            self._judgement = None
            self._view = "presets"  # whatever stood there before: the form comes next
            self.draft = draft
            self.action_view("form")
            self._change(draft)

    @work(group="edit", exclusive=True)
    async def action_save(self) -> None:
        """Ask where, and before a file is replaced that is not this one."""
        draft = self.draft
        if draft is None:
            return
        at_first = draft.path if draft.own else Path.cwd() / f"{draft.name}.toml"
        given = await self.prompt("Save as", str(at_first))
        if not given:
            return
        path = Path(given).expanduser().resolve()
        if path.suffix != ".toml":
            path = path.with_name(path.name + ".toml")
        same = draft.own and path == draft.path.resolve()
        if path.exists() and not same and not await self.ask(f"Replace {path.name}?"):
            return

        def write() -> Draft:
            saved = draft.saved_as(path)
            write_text(path, saved.text)
            return saved

        if saved := await self.attempt(write):
            self._change(saved)
            self.say(f"Saved {path}.")

    @work(group="launch")
    async def action_launch(self, queue: bool) -> None:
        """Start a run; then Monitor shows it."""
        draft = self.draft
        if draft is None or self._starting:
            self.say("Choose a profile first." if draft is None else "A run is being started.", "warning")
            return
        if problems := draft.problems():
            key, reason = next(iter(problems.items()))
            self.say(f"{key}: {reason}", "error")
            return
        best = self._judgement.best if self._judgement and not self._elsewhere else None
        if best and not best.fits and not await self.ask(f"It may not fit {best.name}. Start it all the same?"):
            return
        name = await self.prompt("Name of the run", _run_name(draft))
        if not name:
            return
        self._starting = True
        self.say(f"Starting {name} ...")
        ledger = self.session.ledger
        started: Run | None = None
        try:
            resolved = await self.attempt(lambda: launch.resolved(ledger, draft.profile()))
            if resolved and (not resolved.doubts or await self.ask(_doubted(resolved))):
                self.say(f"Starting {name} ...")
                started = await self.attempt(
                    lambda: launch.start_resolved(
                        ledger, resolved, name=name, runs_folder=self.session.runs_folder, queue=queue
                    )
                )
        finally:
            self._starting = False
        if started is not None:
            self._started = draft.text
            self.post_message(WatchRun(started.uid))


def _doubted(resolved: Resolved) -> str:
    return f"{'; '.join(resolved.doubts)}. Start it all the same?"


def _run_name(draft: Draft) -> str:
    """A name to begin with: the file's, with what was tried in it."""
    method = lookup(draft.values, "method.name") or "lora"
    objective = lookup(draft.values, "training.objective") or "sft"
    rank = lookup(draft.values, "method.rank") or 16
    stem = Path(draft.name).stem if draft.own else draft.name
    tried = [str(method), *([str(rank)] if method == "lora" else [])]
    if objective != "sft" and objective not in stem.split("-"):
        tried.insert(0, str(objective))
    return "-".join([stem, *tried])


def _reason(draft: Draft, field: Field, text: str) -> str:
    """What is wrong with a typed value; empty when it may stand."""
    values = draft.with_value(field.key, typed(field, text)).values
    return form.problem_at(field.key, problems_of(values))
