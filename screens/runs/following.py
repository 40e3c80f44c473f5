"""All runs of a ledger, followed: read once, then only what changed; settings, most of what is read, in portions."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from engine.filtering import Field
from engine.ledger import Ledger, facts, table
from engine.ledger.table import Row, Settings
from screens.runs import scene

FIRST: Final = 100  # runs of which settings are read before the first picture
PORTION: Final = 500  # and at once afterwards: a key waits no longer than that takes
STALE: Final = 2.0  # seconds after which it is looked anyway: a process that died leaves no trace in the ledger


class Following:
    """`rows` are the runs that are not in the bin, newest first, archived ones too; `settings` theirs by row id, as far as they were read.

    `rows_at` and `settings_at` rise whenever these have changed. For one thread.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.rows: Sequence[Row] = ()
        self.settings: dict[int, Settings] = {}
        self.rows_at = self.settings_at = 0
        self.leaders: AbstractSet[int] = frozenset()
        self.baselines: Mapping[str, Row] = {}
        self.fields: tuple[Field, ...] = facts.FIELDS
        self._ledger = ledger
        self._table: table.Table | None = None
        self._version = -1
        self._looked = 0.0
        self._unread: list[int] = []
        self._kinds: dict[tuple[str, type], Settings] = {}  # an example of each type of each setting

    @property
    def complete(self) -> bool:
        """Whether the settings of all runs have been read."""
        return not self._unread

    def look(self, metrics: AbstractSet[str]) -> None:
        """Take in what has changed since, with these metrics and those that were asked for before; then read a portion of settings."""
        before = self._table
        version, now = self._ledger.version(), time.monotonic()
        if before is None or not metrics <= set(before.keys):
            keys = sorted(metrics | set(before.keys if before else ()))
            self._table = table.read(self._ledger, keys, archived=True)
        elif version != self._version or now - self._looked > STALE:
            self._table = table.refreshed(self._ledger, before)
        self._version, self._looked = version, now
        if self._table is not before and self._table is not None and self._table.rows is not self.rows:
            self._take(self._table.rows)
        if self._unread:
            self._read_settings(PORTION if before else FIRST)

    def _take(self, rows: Sequence[Row]) -> None:
        old = {row.id: row for row in self.rows}
        new = [(row, old.get(row.id)) for row in rows if old.get(row.id) is not row]
        self.rows = rows
        self.rows_at += 1
        self.baselines = {row.comparable: row for row in rows if row.baseline and row.comparable}
        if len(rows) != len(old) or any(before is None or _measured(before) != _measured(row) for row, before in new):
            self.leaders = scene.leaders(rows)
        unread = {row.id for row, before in new if before is None or before.changed != row.changed}.union(self._unread)
        self._unread = [row.id for row in rows if row.id in unread] if unread else []

    def _read_settings(self, many: int) -> None:
        """The newest runs' first; a run that has changed is read again, which costs little and seldom tells anything."""
        portion, self._unread = self._unread[:many], self._unread[many:]
        read = table.settings(self._ledger, portion)
        new = {run: found for run, found in read.items() if self.settings.get(run) != found}
        if self.complete:
            gc.freeze()  # half a million objects that stay: the collector would take as long to look through them as a key may
        if new:
            self.settings |= new
            self.settings_at += 1
            self._learn(new.values())

    def _learn(self, new: Iterable[Settings]) -> None:
        """What can be asked of runs, with these settings too."""
        for each in new:
            for key, value in each.items():
                self._kinds.setdefault((key, type(value)), {key: value})
        metrics = [str(row[0]) for row in self._ledger.rows("SELECT name FROM key")]
        self.fields = facts.fields(self._kinds.values(), metrics)


def _measured(row: Row) -> tuple[str, float | None]:
    """What decides whether a run leads."""
    return row.comparable, scene.best_loss(row)
