"""What people say of runs from the Runs screen: notes, tags, a baseline, what is to be out of sight."""

from __future__ import annotations

from textual import work

from engine.ledger import labels
from engine.ledger.runs import Run
from screens.runs.acting import ActingPage
from screens.runs.grouping import occurring
from screens.widgets.run_page import called


class LabellingPage(ActingPage):
    """Each of these is kept in the ledger at once."""

    @work(group="prompt")
    async def action_note(self) -> None:
        """The user's own words, on a screen of their own."""
        run = self.chosen
        if run is None:
            self.say(self.no_run, "warning")
            return
        if not self.may_write():
            return
        from screens.runs.note import NoteScreen  # costs time that the first picture should not pay

        note = await self.app.push_screen_wait(NoteScreen(run.name, run.note))
        if note is not None and note != run.note:
            await self.attempt(lambda: labels.set_note(self.session.ledger, run, note))

    @work(group="prompt")
    async def action_tags(self) -> None:
        """Of one run all of them are there to be changed; to several runs some are added, or with a minus taken away."""
        chosen, ledger = self.several_rows(), self.session.ledger
        if not chosen:
            self.say(self.no_run, "warning")
            return
        if not self.may_write():
            return
        runs = self.whole(chosen)
        if not runs:
            return
        known = occurring(self._snapshot.runs, lambda row: row.tags)  # at hand: what is typed ahead goes to the prompt
        if len(runs) == 1:
            there = "".join(f"{tag} " for tag in chosen[0].tags)  # what is typed is the next one
            typed = await self.prompt(f"tags of {called(runs[0])}:", there, suggestions=known)
            if typed is not None:
                words = _words(typed)
                await self.attempt(lambda: labels.set_tags(ledger, runs[0], words))
            return
        typed = await self.prompt(f"tags for {len(runs)} runs, -tag takes one away:", suggestions=known)
        if typed is None or not _words(typed):
            return

        def change() -> int:
            for word in _words(typed):
                if word.startswith("-"):
                    labels.untag(ledger, runs, word[1:])
                else:
                    labels.tag(ledger, runs, word)
            return len(runs)

        if await self.attempt(change):
            self.say(f"Tagged {len(runs)} runs: {' '.join(_words(typed))}.")

    @work(group="orders")
    async def action_baseline(self) -> None:
        """The run that others with the same validation rows are held against, or no longer."""
        run = self.chosen
        if run is None:
            self.say(self.no_run, "warning")
            return
        on = not run.baseline

        def change() -> bool:
            labels.set_baseline(self.session.ledger, run, on=on)
            return True

        if await self.attempt(change):
            if on:
                self.say(f"{called(run)} ★ is what runs with the same validation rows are held against.")
            else:
                self.say(f"{called(run)} is no baseline any more.")

    @work(group="orders")
    async def action_archive(self) -> None:
        """Out of sight, or back into it where all are out of it."""
        chosen = self.several()
        if not chosen:
            return
        back = all(run.archived is not None for run in chosen)

        def change() -> bool:
            (labels.unarchive if back else labels.archive)(self.session.ledger, chosen)
            return True

        if await self.attempt(change):
            self._table.unmark()
            self.say(_archived(chosen, back=back))


def _words(typed: str) -> list[str]:
    return typed.replace(",", " ").split()


def _archived(chosen: list[Run], *, back: bool) -> str:
    names = called(chosen[0]) if len(chosen) == 1 else f"{len(chosen)} runs"
    if back:
        return f"{names} {'is' if len(chosen) == 1 else 'are'} out of the archive."
    return f"Archived {names}: / archived=yes shows what is archived, A takes it out again."
