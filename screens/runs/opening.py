"""What opens over the Runs screen about several runs: how their profiles differ, their curves, which setting mattered."""

from __future__ import annotations

from typing import Final

from textual import work

from engine.ledger import facts
from engine.ledger.facts import LOSS
from engine.ledger.runs import by_ids
from screens.runs.labelling import LabellingPage
from screens.runs.looking import Detail

OVERLAID: Final = 32  # runs at once; more curves are not told apart


class OpeningPage(LabellingPage):
    """Screens of their own; each is imported when it is first opened."""

    def action_diff(self) -> None:
        """The marked runs, or the selected one against what it is told apart from."""
        from screens.runs.diff import DiffScreen

        chosen = self.several()
        told = self._snapshot.detail
        if len(chosen) == 1 and isinstance(told, Detail) and told.other is not None:
            chosen += self.whole([told.other])
        if len(chosen) > 1:
            self.app.push_screen(DiffScreen(self.session, chosen))
        elif chosen:
            self.say("There is no other run to hold it against: mark two with space.", "warning")

    def action_overlay(self) -> None:
        """The marked runs, or the selected one."""
        from screens.runs.overlay import OverlayScreen

        chosen = self.several()
        if len(chosen) > OVERLAID:
            self.say(f"{len(chosen)} curves are not told apart: mark {OVERLAID} runs at most.", "warning")
        elif chosen:
            self.app.push_screen(OverlayScreen(self.session, chosen))

    @work(group="prompt")
    async def action_why(self) -> None:
        """Over the marked runs, else over all that pass the filter; of the metric that the table is sorted by, else of the loss."""
        from screens.runs.why import WhyScreen

        snapshot, marked = self._snapshot, self._table.marked
        rows = [row for row in snapshot.passing if not marked or row.uid in marked]
        if not rows:
            self.say(self.no_run, "warning")
            return
        asked = facts.metric(self._snapshot.wanted.view.sort)
        runs = await self.attempt(lambda: by_ids(self.session.ledger, [row.id for row in rows]))
        if runs:
            self.app.push_screen(WhyScreen(self.session, runs, asked[0] if asked else LOSS))
