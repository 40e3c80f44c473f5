"""The table of rows: any number of them, or those of a finding, or those that pass a filter."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from textual import work
from textual.message import Message
from textual.worker import Worker, get_current_worker

from engine.data import passing
from engine.data.opened import Looked, Opened
from engine.filtering import Filter, parse
from screens.data.narrowing import Narrowing
from screens.data.rows import ROW_COLUMNS, row_cells
from screens.widgets.cells import Cell
from screens.widgets.table import Table

SLOW: Final = 0.3  # seconds after which a filter says how far it is


class RowTable(Table[int]):
    """Rows are numbers from 0; only those on screen are read, and those that a filter is put to."""

    class Narrowed(Message):
        """Other rows are listed, or more is known of which will be."""

    def __init__(self) -> None:
        super().__init__(ROW_COLUMNS, self._cells_of, str, id="rows")
        self.narrowing = Narrowing()
        self._opened: Opened | None = None
        self._looked: Looked | None = None
        self.doing = ""
        """How far a filter is that takes long."""
        self._chosen = 0
        self._put: int | None = None  # where we put the cursor, for want of the row that was chosen

    def _cells_of(self, row: int) -> tuple[Cell, ...]:
        assert self._opened is not None
        return row_cells(self._opened, row)

    def open(self, opened: Opened, *, fresh: bool) -> None:
        """Other data (`fresh`), or the same as another model sees them, of which other rows may pass."""
        if fresh:
            self.show(())
            self._chosen = 0
        self._opened, self._looked = opened, None
        self.narrow(Narrowing() if fresh else self.narrowing)
        self.refresh()

    def learn(self, looked: Looked) -> None:
        """All rows have been looked at: lengths and findings are known."""
        self._looked = looked
        if self.narrowing.only.text:
            self.narrow(self.narrowing)
        self.refresh()

    def filter(self, only: Filter) -> None:
        """Only rows that pass, of those that were listed for another reason."""
        self.narrow(replace(self.narrowing, only=only))

    def narrow(self, narrowing: Narrowing) -> None:
        """Only the rows that are meant."""
        if self._opened is None:
            return
        asked = passing.fields(self._opened, self._looked)  # others than when it was typed, with another base model
        narrowing = replace(narrowing, only=parse(narrowing.only.text, asked))
        self.narrowing, self.doing = narrowing, ""
        rows = narrowing.before_filter(self._opened, self._looked)
        if narrowing.only.parts:
            self._look_which_pass(self._opened, self._looked, narrowing.only, rows)
        else:
            self.workers.cancel_group(self, "narrow")
            self._list(rows)

    @work(thread=True, exclusive=True, group="narrow", exit_on_error=False)
    def _look_which_pass(self, opened: Opened, looked: Looked | None, only: Filter, rows: Sequence[int]) -> None:
        """In a thread: rows are read, and there may be many."""
        worker, began = get_current_worker(), time.monotonic()

        def tell(done: int, total: int) -> None:
            if done and time.monotonic() - began > SLOW:
                self.app.call_from_thread(self._say, worker, f"{100 * done // total} %")

        found = passing.passing(opened, looked, only, rows, tell, lambda: worker.is_cancelled)
        if found is not None and not worker.is_cancelled:
            self.app.call_from_thread(self._take, worker, found)

    def _say(self, worker: Worker[None], doing: str) -> None:
        if not worker.is_cancelled and doing != self.doing:
            self.doing = doing
            self.post_message(self.Narrowed())

    def _take(self, worker: Worker[None], found: Sequence[int]) -> None:
        if not worker.is_cancelled:  # else another filter was typed meanwhile
            self.doing = ""
            self._list(found)

    def _list(self, rows: Sequence[int]) -> None:
        """These rows, with the cursor on the one that a person chose last, or on the next that is left."""
        if self.selected is not None and self.selected != self._put:
            self._chosen = self.selected
        self.show(())  # else the cursor's row is looked for among a million
        self.show(rows)
        self.move_to(bisect_left(rows, self._chosen))
        self._put = self.selected
        self.post_message(self.Narrowed())
