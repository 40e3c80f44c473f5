"""Tables that people and other programs write: CSV, JSON lines, Parquet.

Either a row a step (a column of steps, a column a metric) or a row a point (step, key, value); with a column of runs there may
be several. Our own exports are of the second form and name their runs' uids.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import Problem
from engine.ledger.exchange import foreign, frames
from engine.ledger.exchange.imported import Imported, Kind, Points, uid_of
from engine.ledger.runs import UID

if TYPE_CHECKING:
    import polars

STEPS: Final = ("step", "global_step", "train/global_step", "_step", "steps", "iteration", "iter")
TIMES: Final = ("time", "timestamp", "_timestamp", "wall_time", "created_at")
RUNS: Final = ("uid", "run", "run_id", "run_name")
KEYS: Final = ("key", "metric", "tag")
VALUE: Final = "value"


class File:
    """A file that several runs share: it is read again when it has changed."""

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path = path
        self.kind: Kind = kind
        self.mark = (0, 0)  # when it was written, how long it is
        self.waiting = self.damaged = 0
        self._runs: dict[str, polars.DataFrame] = {}

    def runs(self) -> dict[str, polars.DataFrame]:
        """The whole rows that it has by now, by run.

        Raises:
            Problem: it cannot be read, or is not what its name says.
        """
        try:
            stat = self.path.stat()
            if (mark := (stat.st_mtime_ns, stat.st_size)) != self.mark:
                found = frames.read(self.path, self.kind)
                self.waiting, self.damaged = found.waiting, found.damaged
                self._runs, self.mark = _by_run(found.rows), mark
        except OSError as error:
            raise Problem(f"{self.path} cannot be read", f"{error.strerror}.", code="import") from error
        return self._runs


class Table:
    """A reader of one run of a file."""

    def __init__(self, file: File, run: str = "") -> None:
        self.path = file.path
        self.kind: Kind = file.kind
        self._file = file
        self._run = run
        self._mark = (0, 0)
        self._troubles: tuple[str, ...] = ()

    def read(self) -> Imported | None:
        """What is known of the run, with all its points when the file has changed; None while it has no whole row.

        Raises:
            Problem: it cannot be read, or has no column of steps.
        """
        rows = self._file.runs().get(self._run)
        changed, self._mark = self._mark != self._file.mark, self._file.mark
        if rows is None:
            return None
        if (step := _column(rows, STEPS)) is None:
            raise Problem(
                f"{self.path} has no column of steps",
                f"It has {', '.join(rows.columns)}.",
                f"Name one of them {STEPS[0]}.",
                code="import",
            )
        steps = frames.numbers(rows[step])
        fine = ((steps == steps.floor()) & (steps.abs() <= 2**53)).fill_null(False)  # NumPy would make steps of gaps
        clock, written = _column(rows, TIMES), self._file.mark[0] / 1e9
        times = frames.seconds(rows[clock]).filter(fine).fill_null(written).to_numpy() if clock else None
        first = {key: value for key, value in rows.row(0, named=True).items() if value not in (None, "")}
        points = Rows(rows.filter(fine), steps.filter(fine).to_numpy(), times, written)
        found: dict[str, Points] = {}
        if changed:
            found = points.by_key()
            self._troubles = tuple(_troubles(self._file, int((~fine).sum()), points.unread()))
            if not found:
                self._troubles += ("No column but that of the steps holds numbers.",)
        return Imported(
            uid=uid
            if UID.fullmatch(uid := str(first.get("uid")))
            else uid_of(self.kind, self.path.resolve(), json.dumps(first, sort_keys=True, default=str)),
            kind=self.kind,
            path=self.path,
            name=next((str(first[name]) for name in ("run", "run_name") if name in first), self._run or self.path.stem),
            created=float(points.times.min(initial=np.inf)) if len(points.times) else written,
            points=found,
            troubles=self._troubles,
            waiting=self._file.waiting,
        )


def readers(path: Path, kind: Kind) -> list[Table]:
    """A reader for each run in the file.

    Raises:
        Problem: it cannot be read.
    """
    file = File(path, kind)
    return [Table(file, run) for run in file.runs()] or [Table(file)]


def _by_run(rows: polars.DataFrame) -> dict[str, polars.DataFrame]:
    import polars

    known = {name.lower().replace(" ", "_"): name for name in reversed(rows.columns)}  # Step, Wall time
    meant = [name for name in (*STEPS, *TIMES, *RUNS, *KEYS, VALUE) if name in known and name not in rows.columns]
    rows = rows.rename({known[name]: name for name in meant})
    told = [polars.col(name).cast(polars.String).replace("", None) for name in RUNS if name in rows.columns]
    if not rows.height or not told:
        return {"": rows} if rows.height else {}
    run = rows.select(polars.coalesce(*told, polars.lit(""))).to_series().alias("")
    return {str(name): each.drop("") for (name,), each in rows.with_columns(run).group_by("", maintain_order=True)}


def _column(rows: polars.DataFrame, wanted: Iterable[str]) -> str | None:
    return next((name for name in wanted if name in rows.columns), None)


def _troubles(file: File, astray: int, unread: int) -> Iterable[str]:
    if file.damaged:
        yield f"Lines that could not be understood: {file.damaged:,}."
    if astray:
        yield f"Rows without a whole number as their step: {astray:,}."
    if unread:
        yield f"Cells that should be numbers and are not: {unread:,}."
    if file.waiting:
        yield f"The last line ({file.waiting:,} bytes) has no line break, so it may be half written: it was left out."


class Rows:
    """The rows of a run with their steps and times (n,); without `times`, all are of when the file was `written`."""

    def __init__(
        self, rows: polars.DataFrame, steps: NDArray[np.float64], times: NDArray[np.float64] | None, written: float
    ) -> None:
        self._rows = rows
        self._steps = steps.astype(np.int64)
        self.times = np.full(len(steps), written) if times is None else times

    def by_key(self) -> dict[str, Points]:
        """The points of each metric."""
        names: Callable[[str], str] = str if "uid" in self._rows.columns else foreign.Names()  # ours have our names
        key = _column(self._rows, KEYS)
        found: dict[str, Points] = {}
        if key is None or VALUE not in self._rows.columns:
            for column in self._metrics():
                found[names(column)] = self._points(frames.numbers(self._rows[column]))
        else:
            values = frames.numbers(self._rows[VALUE])
            for (name,), rows in self._rows.with_row_index("row").group_by(key, maintain_order=True):
                found[names(str(name or ""))] = self._points(values, rows["row"].to_numpy())
        return {name: points for name, points in found.items() if len(points.steps)}

    def unread(self) -> int:
        """How many cells hold texts where others of their column hold numbers."""
        long = _column(self._rows, KEYS) is not None and VALUE in self._rows.columns
        return sum(frames.unread(self._rows[column]) for column in ([VALUE] if long else self._metrics()))

    def _metrics(self) -> list[str]:
        """The columns that may be metrics, where a row is a step; those without a name are a pandas frame's index."""
        known = (*STEPS, *TIMES, *RUNS, "")
        return [name for name in self._rows.columns if name not in known and not name.startswith("Unnamed: ")]

    def _points(self, column: polars.Series, rows: NDArray[np.uint32] | None = None) -> Points:
        """The numbers of a column, or of some of its rows; of several at one step the last."""
        at = np.arange(len(column)) if rows is None else rows
        at = at[column.is_not_null().to_numpy()[at]]
        at = at[np.argsort(self._steps[at], kind="stable")]
        at = at[np.append(self._steps[at][1:] != self._steps[at][:-1], True)[: len(at)]]
        return Points(self._steps[at], np.round(self.times[at], 3), column.to_numpy()[at])
