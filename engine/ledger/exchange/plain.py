"""Tables that people and other programs write: CSV, JSON lines, Parquet.

Either a row a step (a column of steps, a column a metric) or a row a point (step, key, value); with a column of runs there may
be several. Our own exports are of the second form and name their runs' uids.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from engine.errors import Problem
from engine.ledger.exchange import foreign
from engine.ledger.exchange.imported import Gathering, Imported, Kind, uid_of

SUFFIXES: Final[Mapping[str, Kind]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
STEPS: Final = ("step", "global_step", "train/global_step", "_step", "steps", "iteration", "iter")
TIMES: Final = ("time", "timestamp", "_timestamp", "wall_time", "created_at")
RUNS: Final = ("uid", "run", "run_id", "run_name")
KEYS: Final = ("key", "metric", "tag")
Row = Mapping[str, object]


class Table:
    """A reader of one run of a file; it reads the file again when that has grown."""

    def __init__(self, path: Path, kind: Kind, run: str = "") -> None:
        self.path = path
        self.kind: Kind = kind
        self._run = run
        self._mark = (0, 0)

    def read(self) -> Imported | None:
        """What is known of the run, with all its points when the file has changed; None while it has no whole row.

        Raises:
            Problem: it cannot be read, or has no column of steps.
        """
        stat = self.path.stat()
        changed, self._mark = self._mark != (stat.st_mtime_ns, stat.st_size), (stat.st_mtime_ns, stat.st_size)
        rows, waiting, damaged = rows_of(self.path, self.kind)
        mine = [row for row in rows if _run_of(row) == self._run]
        if not mine:
            return None
        step_column = _column(mine, STEPS)
        if step_column is None:
            raise Problem(
                f"{self.path} has no column of steps",
                f"It has {', '.join(sorted({key for row in mine[:10] for key in row}))}.",
                f"Name one of them {STEPS[0]}.",
                code="import",
            )
        gathered, first, unread = _gathered(mine, step_column, stat.st_mtime)
        troubles = (
            f"{damaged:,} lines could not be understood." if damaged else "",
            f"{unread:,} rows have no whole number as their step." if unread else "",
            f"The last line ({waiting:,} bytes) has no line break, so it may be half written: it was left out."
            if waiting
            else "",
        )
        uid = next((str(row["uid"]) for row in mine if row.get("uid")), "")
        named = next((str(row[key]) for key in ("run", "run_name") for row in mine if row.get(key)), "")
        return Imported(
            uid=uid
            or uid_of(self.kind, self.path.resolve(), self._run, json.dumps(mine[0], sort_keys=True, default=str)),
            kind=self.kind,
            path=self.path,
            name=named or self._run or self.path.stem,
            created=first,
            points=gathered.take() if changed else {},
            troubles=tuple(filter(None, troubles)),
            waiting=waiting,
        )


def readers(path: Path, kind: Kind) -> list[Table]:
    """A reader for each run in the file.

    Raises:
        Problem: it cannot be read.
    """
    rows, _, _ = rows_of(path, kind)
    return [Table(path, kind, run) for run in dict.fromkeys(map(_run_of, rows))] or [Table(path, kind)]


def _run_of(row: Row) -> str:
    return next((str(row[key]) for key in RUNS if row.get(key)), "")


def _column(rows: Sequence[Row], wanted: Sequence[str]) -> str | None:
    there = {key for row in rows for key in row}
    return next((key for key in wanted if key in there), None)


def _gathered(rows: Sequence[Row], step_column: str, otherwise: float) -> tuple[Gathering, float, int]:
    """The points, the time of the first one (`otherwise` where there are no times), and how many rows have no step."""
    time_column, key_column = _column(rows, TIMES), _column(rows, KEYS) if _column(rows, ("value",)) else None
    own = any("uid" in row for row in rows)
    names, gathered, unread = foreign.Names(), Gathering(), 0
    first = float("inf")
    for row in rows:
        step = _number(row.get(step_column))
        if step is None or step != step // 1:
            unread += 1
            continue
        when = _time(row.get(time_column)) if time_column else None
        first = min(first, otherwise if when is None else when)
        when = otherwise if when is None else when
        if key_column:
            key, value = str(row.get(key_column) or ""), _number(row.get("value"))
            if value is not None:
                gathered.add(key if own else names(key), int(step), when, value)
            continue
        for key, each in row.items():
            if key not in (step_column, time_column, *RUNS) and (value := _number(each)) is not None:
                gathered.add(names(key), int(step), when, value)
    return gathered, first if first != float("inf") else otherwise, unread


def rows_of(path: Path, kind: Kind) -> tuple[list[Row], int, int]:
    """All whole rows of a file, how many bytes wait at its end for their rest, and how many lines are no rows.

    Raises:
        Problem: it cannot be read, or is not what its name says.
    """
    try:
        if kind == "parquet":
            return _parquet(path), 0, 0
        data = path.read_bytes()
    except OSError as error:
        raise Problem(f"{path} cannot be read", f"{error.strerror}.", code="import") from error
    whole = data.rfind(b"\n") + 1
    if kind == "jsonl":
        if _json_row(data[whole:]) is not None:  # an object that ends is whole, with or without a line break
            whole = len(data)
        found = [_json_row(line) for line in data[:whole].splitlines() if line.strip()]
        rows = [row for row in found if row is not None]
        return rows, len(data) - whole, len(found) - len(rows)
    return _csv(path, data[:whole].decode("utf-8-sig", errors="replace")), len(data) - whole, 0


def _csv(path: Path, text: str) -> list[Row]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        read = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [{key.strip(): value for key, value in row.items() if key and value not in (None, "")} for row in read]
    except csv.Error as error:
        raise Problem(f"{path} is not a table", f"{error}.", code="import") from error


def _json_row(line: bytes) -> Row | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return dict(_leaves("", found)) if isinstance(found, dict) else None


def _leaves(prefix: str, value: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for key, each in value.items():
        if isinstance(each, Mapping):
            yield from _leaves(f"{prefix}{key}.", each)
        else:
            yield f"{prefix}{key}", each


def _parquet(path: Path) -> list[Row]:
    import polars

    try:
        return list(polars.read_parquet(path).iter_rows(named=True))
    except polars.exceptions.PolarsError as error:
        raise Problem(f"{path} is not a whole Parquet file", f"{error}.", code="import") from error


def _number(value: object) -> float | None:
    """A cell as a number: what trackers write, and texts of numbers, `nan` and `inf` among them."""
    found = foreign.number(value)
    if found is None and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return found


def _time(value: object) -> float | None:
    """Seconds since the epoch, from a number (milliseconds where it is too large) or an ISO time (UTC without a zone)."""
    number = _number(value)
    if number is not None:
        return number / 1000 if number > 1e11 else number
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return None
