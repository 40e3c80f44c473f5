"""Which rows the table shows: all, those of a finding, those that pass a filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.data.finding import Finding
from engine.data.opened import Looked, Opened
from engine.filtering import Filter


@dataclass(frozen=True)
class Narrowing:
    """A finding's rows, of which those count that pass `only`."""

    only: Filter = Filter()  # noqa: RUF009 - frozen
    finding: Finding | None = None

    @property
    def wider(self) -> Narrowing | None:
        """Without what narrows most: the filter, then the finding; None where nothing does."""
        if self.only.text:
            return replace(self, only=Filter())
        return Narrowing() if self.finding else None

    def before_filter(self, opened: Opened, looked: Looked | None) -> Sequence[int]:
        """The rows (from 0) that the filter is put to: a finding's, as far as they are known, else all."""
        if self.finding is None:
            return range(len(opened))
        known = looked.rows_of.get(self.finding.id) if looked else None
        numbers = self.finding.rows if known is None else known.tolist()
        return [number - 1 for number in numbers if number <= len(opened)]

    def told(self, shown: int) -> str:
        """Of which finding `shown` rows are listed; empty where that is not why they are."""
        if self.finding is None:
            return ""
        first = "" if self.finding.count <= shown or self.only.text else f" (the first {shown})"
        return f"only: {self.finding.sentence}{first}   esc shows all"
