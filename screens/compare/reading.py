"""From the ledger to what the Compare screen shows: one frozen snapshot a read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import Problem
from engine.evaluate.behind import Behind, behind
from engine.evaluate.compare import Comparison, ComparisonRow, compare
from engine.evaluate.pairing import finished, pairs_of
from engine.filtering import Filter
from engine.ledger import Ledger, jobs, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from screens.compare.filters import row_fact


@dataclass(frozen=True)
class Snapshot:
    """The chosen runs, what their comparison says, the answers behind the selected row, and an evaluation at work or
    failed. Of `of` rows `rows` pass the filter.

    `work` is the newest evaluation of the chosen runs, while it is live or when it came to no good end.
    """

    chosen: tuple[Run, ...] = ()
    comparison: Comparison | None = None
    rows: tuple[ComparisonRow, ...] = ()
    of: int = 0
    selected: ComparisonRow | None = None
    behind: tuple[Behind, ...] = ()
    work: Job | None = None
    work_state: State | None = None


class Reading:
    """Reads snapshots; keeps the comparison as long as its evaluations are the same. For one thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._compared: tuple[object, Comparison] | None = None
        self._behind: tuple[object, tuple[Behind, ...]] | None = None

    def read(self, uids: Sequence[str] | None, all_metrics: bool, selected: str | None, only: Filter) -> Snapshot:
        """All of it, of the rows those that pass `only`. Without `uids` the newest run that has been evaluated is chosen, else the newest with a result."""
        chosen = self._chosen(uids)
        if not chosen:
            return Snapshot()
        comparison = self._compare(chosen)
        all_rows = [row for row in comparison.rows if row.main or all_metrics]
        rows = [row for row in all_rows if only.holds(row_fact(row))]
        row = next((row for row in rows if row_key(row) == selected), rows[0] if rows else None)
        work = self._work(chosen)
        return Snapshot(
            chosen=tuple(chosen),
            comparison=comparison,
            rows=tuple(rows),
            of=len(all_rows),
            selected=row,
            behind=self._read_behind(row),
            work=work,
            work_state=jobs.seen_state(work) if work else None,
        )

    def _chosen(self, uids: Sequence[str] | None) -> list[Run]:
        if uids is None:
            listed = [run for run in runs.listed(self._ledger) if run.result_path and run.state not in LIVE]
            found = next((run for run in listed if finished(self._ledger, run)), listed[0] if listed else None)
            return [found] if found else []
        chosen: list[Run] = []
        for uid in uids:
            try:
                chosen.append(runs.find(self._ledger, uid))
            except Problem:
                continue  # deleted meanwhile
        return chosen

    def _compare(self, chosen: Sequence[Run]) -> Comparison:
        pairs, missing = pairs_of(self._ledger, chosen)
        key = (tuple(run.name for run in chosen), tuple(pairs), tuple(missing))
        if self._compared is None or self._compared[0] != key:
            self._compared = key, compare(self._ledger, chosen)
        return self._compared[1]

    def _read_behind(self, row: ComparisonRow | None) -> tuple[Behind, ...]:
        if row is None:
            return ()
        key = (row.metric, row.evaluations)
        if self._behind is None or self._behind[0] != key:
            self._behind = key, behind(self._ledger, row)
        return self._behind[1]

    def _work(self, chosen: Sequence[Run]) -> Job | None:
        wanted = {run.uid for run in chosen}
        for job in jobs.recent(self._ledger, "evaluate"):
            if wanted & set(json.loads(job.argument).get("runs", ())):
                return None if jobs.seen_state(job) is State.FINISHED else job
        return None


def row_key(row: ComparisonRow) -> str:
    """What a row is known by while figures change."""
    return f"{row.suite}/{row.metric}/{row.run}/{row.against}"
