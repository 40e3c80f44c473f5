"""The Configure screen: a profile as a form, judged while it is changed, saved as a file or started as a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from textual import work
from textual.content import Content
from textual.message import Message

from engine import launch
from engine.atomic import write_text
from engine.errors import Problem
from engine.fit import cards
from engine.fit.cards import Card
from engine.ledger.runs import Run
from engine.profile_file import dump
from engine.resolve import Resolved
from screens.commands import Command
from screens.configure import presets
from screens.configure.draft import Draft, lookup
from screens.configure.picking import PickingPage
from screens.configure.presets import Preset
from screens.configure.verbs import BACK, CSS, FIND, VERBS
from screens.configure.verdict import sentence
from screens.messages import ConfigureFrom, LookAtData, WatchRun
from screens.widgets import figures
from screens.widgets.line import Line


class ConfigureScreen(PickingPage):
    """What the keys do."""

    VERBS = VERBS
    CSS = CSS
    _starting = False

    def verbs(self) -> list[Command]:
        """In a list enter takes what is under the cursor; before there is a profile nothing else means anything."""
        found = list(super().verbs())
        take = replace(found[0], label="take")
        if self._view in ("presets", "models"):
            return [take, FIND, BACK] if self.draft else [take, FIND]
        if self._view in ("why", "toml", "diff"):
            return [BACK, *(verb for verb in found[1:] if verb.id != FIND.id)]
        if self._view == "ladder":
            return [take, *found[1:]]
        return [verb for verb in found if verb.id != FIND.id]

    @work(group="edit", exclusive=True)
    async def action_gpu(self) -> None:
        """Judge for a GPU that is here, which the profile then names, or for a kind that is not."""
        if self.draft is None:
            return
        here = ("auto", *(str(gpu.index) for gpu in self.gpus))
        offered = (*here, *(spec.name for spec in cards.specs()))
        given: str | None = self._elsewhere
        while (
            given := await self.prompt("GPU =", given or "", suggestions=offered, on_change=self._tell_of_gpu)
        ) is not None:
            if given in ("", *here):
                self._elsewhere = ""
                now: object = [int(given)] if given.isdigit() else "auto"
                if (lookup(self.draft.values, "hardware.gpus") or "auto") != now:
                    self._change(self.draft.with_value("hardware.gpus", now))
                break
            if isinstance(card := _kind(given), Card):
                self._elsewhere = card.name
                break
        self._draw_about()
        self._judge_soon()

    def _tell_of_gpu(self, name: str) -> None:
        """What is known of a GPU while its name is typed, those that it may become, or that there is none."""
        card = _kind(name)
        begun = [spec.name for spec in cards.specs() if spec.name.lower().startswith(name.lower())]
        gpu = next((gpu for gpu in self.gpus if name == str(gpu.index)), None)
        if name in ("", "auto"):
            said = Content("Those that are here." if self.gpus else "The CPU: there is no GPU here.")
        elif gpu is not None:
            said = Content(f"{gpu.name}, {figures.gib(gpu.free_mib)} of {figures.gib(gpu.total_mib)} GiB free.")
        elif isinstance(card, Problem) and begun:
            said = Content(", ".join(begun))
        elif isinstance(card, Problem):
            said = Content.styled(f"✗ {sentence(card.what)} {card.do}", "$text-error")
        else:
            said = Content(f"{card.name}, {figures.gib(card.total_mib)} GiB, which is not here.")
        self.query_one("#about", Line).show(said)

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
            if preset.kind == "import":
                self.say(presets.left_behind(draft))
            if key := await self.attempt(lambda: presets.without_data(draft)):
                self._go_to(key)
                self.say(f"{draft.name} comes without its data: enter names yours.")

    def _go_to(self, key: str) -> None:
        """The cursor on a value of the form, its section open."""
        self._folded = frozenset(name for name in self._folded if not key.startswith(f"{name}."))
        self._draw()
        self._form.move_to(next((place for place, row in enumerate(self._form.rows) if row.key == key), 0))

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
        waits = self._judge.simulator is not None and best and best.uuid != "cpu" and best.source != "simulated"
        self.say(f"Starting {name}{': its memory is simulated first' if waits else ''} ...")
        ledger = self.session.ledger
        started: Run | None = None
        try:
            resolved = await self.attempt(lambda: launch.resolved(ledger, draft.profile(), self._judge.simulator))
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


def _kind(name: str) -> Card | Problem:
    """A kind of GPU by its name, or that there is none of that name."""
    try:
        return cards.named(name)
    except Problem as problem:
        return problem


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
