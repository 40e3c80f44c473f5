"""Runs in the ledger: one training each and its result."""

from __future__ import annotations

import json
import math
import re
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from engine.errors import Problem, closest
from engine.ledger import jobs
from engine.ledger.states import LIVE, State
from engine.ledger.store import Ledger, Value

LONGEST_NAME: Final = 128  # characters of a run's name
UID: Final = re.compile(r"[0-9a-f]{12}")
"""What a uid looks like. Folders are named by it, so nothing else that a file says of itself is taken for one."""


@dataclass(frozen=True)
class Run:
    """One row of `run`. `state` is as this machine sees it (`lost` included); times are seconds since the epoch."""

    id: int
    uid: str
    name: str
    created: float
    folder: Path
    parent: str | None
    state: State
    cause: str
    step: int
    steps: int | None
    ends: float | None
    result_kind: str | None
    result_path: str | None
    predicted_mib: float | None
    measured_mib: float | None
    note: str
    source: str = ""
    sweep: str = ""
    gpu: str = ""
    comparable: str = ""
    baseline: bool = False
    archived: float | None = None
    deleted: float | None = None

    @property
    def has_own_folder(self) -> bool:
        """Whether its folder is one that Workbench makes, named by the uid; somebody else's ledger may name any folder."""
        return UID.fullmatch(self.uid) is not None and self.folder.name == self.uid

    @property
    def result(self) -> Path | None:
        """Where the adapter or model is, once there is one."""
        return self.folder / self.result_path if self.result_path else None


@dataclass(frozen=True)
class Document:
    """What is large about a run."""

    profile: str
    environment: dict[str, object] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)


_NAMES: Final = tuple(field.name for field in fields(Run))
_COLUMNS: Final = ", ".join(_NAMES)
NEWEST_FIRST: Final = "ORDER BY created DESC, id DESC"


def _run(row: tuple[Any, ...]) -> Run:
    values = dict(zip(_NAMES, row, strict=True))
    typed = {"state": State(values["state"]), "folder": Path(values["folder"]), "baseline": bool(values["baseline"])}
    return Run(**{**values, **typed})


def _select(ledger: Ledger, rest: str, values: Sequence[Value] = ()) -> list[Run]:
    return [_run(row) for row in ledger.rows(f"SELECT {_COLUMNS} FROM run {rest}", values)]


def _as_seen(ledger: Ledger, run: Run) -> Run:
    """The run with `lost` in place of a live state whose process is gone."""
    if run.state not in LIVE:
        return run
    return _seen(run, jobs.newest_training(ledger, run.id))


def _seen(run: Run, newest: jobs.Job | None) -> Run:
    """The run in the state that its newest training job is seen in."""
    if run.state not in LIVE or newest is None:
        return run
    return replace(run, state=jobs.seen_state(newest))


def create(
    ledger: Ledger,
    *,
    name: str,
    runs_folder: Path,
    profile: str,
    settings: Mapping[str, object],
    steps: int | None = None,
    parent: str | None = None,
    predicted_mib: float | None = None,
    environment: Mapping[str, object] | None = None,
    source: str = "",
) -> Run:
    """A new queued run; its folder is `runs_folder`/UID (not made here). A name that is taken gets a number (`as_name`, `free_name`).

    `profile` is the resolved TOML, `settings` the same flattened to dotted keys, to filter and diff by. `environment` is what is known
    already of what `record` adds to. `source` says where it comes from if Workbench does not train it.
    """
    uid = uuid.uuid4().hex[:12]
    with ledger.transaction(durable=True) as connection:
        unique = free_name(connection, as_name(name, uid))
        cursor = connection.execute(
            "INSERT INTO run (uid, name, created, folder, parent, state, steps, predicted_mib, source)"
            " VALUES (?, ?, ?, ?, ?, 'queued', ?, ?, ?)",
            (uid, unique, time.time(), str(runs_folder / uid), parent, steps, predicted_mib, source),
        )
        connection.execute(
            "INSERT INTO run_document (run, profile, settings, environment) VALUES (?, ?, ?, ?)",
            (
                cursor.lastrowid,
                profile,
                json.dumps(dict(sorted(settings.items()))),
                json.dumps(dict(environment or {})),
            ),
        )
    return find(ledger, uid)


def as_name(text: str, otherwise: str) -> str:
    """A text as the name of a run: one line of printable characters, not too long; `otherwise` where nothing is left."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(plain.split())[:LONGEST_NAME] or otherwise


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def free_name(connection: sqlite3.Connection, name: str) -> str:
    """The name, with a number where a run has it already, or has it as its uid; runs in the bin have no name."""
    query = (
        "SELECT name FROM run WHERE deleted IS NULL AND (name = ?1 OR name LIKE ?2 ESCAPE '\\')"
        " UNION SELECT uid FROM run WHERE uid = ?1"
    )
    taken = {row[0] for row in connection.execute(query, (name, _like(name) + "-%"))}
    number, unique = 2, name
    while unique in taken:
        unique = f"{name}-{number}"
        number += 1
    return unique


def find(ledger: Ledger, name: str, *, binned: bool = False) -> Run:
    """The run with this uid, name, or unambiguous beginning of a uid; with `binned` one that is in the bin, else one that is not.

    Raises:
        Problem: there is none, there are several, or it is on the other side of the bin.
    """
    found = _called(ledger, name)
    here = [run for run in found if (run.deleted is not None) == binned]
    if len(here) == 1:
        return _as_seen(ledger, here[0])
    if here:
        why = (
            "They were deleted with the same name." if here[0].name == name else "It is the beginning of several uids."
        )
        several = f"{name} means {len(here)} runs"
        raise Problem(several, why, f"Give more of the uid: workbench runs {'bin' if binned else 'list'}", code="run")
    if found and binned:
        raise Problem(f"{found[0].name} is not in the bin", do="See what is: workbench runs bin", code="run")
    if found:
        raise Problem(
            f"{found[0].name} is in the bin",
            "It was deleted.",
            f"Get it back: workbench runs restore {name}",
            code="run",
        )
    where = "deleted IS NOT NULL" if binned else "deleted IS NULL"
    names = [str(row[0]) for row in ledger.rows(f"SELECT name FROM run WHERE {where}")]
    raise Problem(
        f"There is no run {name}{' in the bin' if binned else ''}{closest(name, names)}",
        do=f"See what there is: workbench runs {'bin' if binned else 'list'}",
        code="run",
    )


def _called(ledger: Ledger, name: str) -> list[Run]:
    found = _select(ledger, "WHERE uid = ? OR name = ?", (name, name))
    if not found and len(name) >= 4:
        found = _select(ledger, "WHERE uid LIKE ? ESCAPE '\\'", (_like(name) + "%",))
    return found


def by_id(ledger: Ledger, run: int) -> Run | None:
    """The run with this row id; None when it was deleted meanwhile."""
    found = _select(ledger, "WHERE id = ? AND deleted IS NULL", (run,))
    return _as_seen(ledger, found[0]) if found else None


def by_ids(ledger: Ledger, chosen: Sequence[int]) -> list[Run]:
    """The runs with these row ids, in their order; without those that were deleted meanwhile."""
    marks = ", ".join(str(int(run)) for run in chosen)
    found = {run.id: run for run in _select(ledger, f"WHERE id IN ({marks}) AND deleted IS NULL", ())}
    return [_as_seen(ledger, found[run]) for run in chosen if run in found]


def by_uid(ledger: Ledger, uid: str) -> Run | None:
    """The run with this uid, also one that is in the bin; None where there is none."""
    found = _select(ledger, "WHERE uid = ?", (uid,))
    return _as_seen(ledger, found[0]) if found else None


def listed(ledger: Ledger, *, limit: int = -1) -> list[Run]:
    """All runs but those in the bin, or the `limit` newest; archived ones too, newest first, with lost ones seen as such."""
    newest = {job.run: job for job in jobs.live(ledger) if job.kind == "train"}
    found = _select(ledger, f"WHERE deleted IS NULL {NEWEST_FIRST} LIMIT ?", (limit,))
    return [_seen(run, newest.get(run.id)) for run in found]


def binned(ledger: Ledger, *, before: float = math.inf) -> list[Run]:
    """The runs in the bin, or those of them that were deleted before a time (seconds since the epoch); what was deleted last first."""
    return _select(ledger, "WHERE deleted < ? ORDER BY deleted DESC, id DESC", (before,))


def children(ledger: Ledger, run: Run) -> list[Run]:
    """The runs that go on from this one, oldest first."""
    return [
        _as_seen(ledger, each)
        for each in _select(ledger, "WHERE parent = ? AND deleted IS NULL ORDER BY id", (run.uid,))
    ]


def document(ledger: Ledger, run: Run) -> Document:
    """The run's resolved profile, environment and fingerprints.

    Raises:
        Problem: it was removed for good.
    """
    found = ledger.rows("SELECT profile, environment, fingerprints FROM run_document WHERE run = ?", (run.id,))
    if not found:
        raise Problem(f"{run.name} is not in the ledger any more", "It was removed for good.", code="run")
    profile, environment, fingerprints = found[0]
    return Document(profile, json.loads(environment), json.loads(fingerprints))


def settings(ledger: Ledger, run: Run) -> dict[str, object]:
    """The run's resolved profile, flattened to dotted keys."""
    found = ledger.value("SELECT settings FROM run_document WHERE run = ?", (run.id,))
    known: dict[str, object] = json.loads(str(found or "{}"))
    return known


def record(
    ledger: Ledger,
    run: Run,
    *,
    environment: Mapping[str, object] | None = None,
    fingerprints: Mapping[str, str] | None = None,
) -> None:
    """Add to what is known of the run's environment and fingerprints (data, base, result); given keys replace the old."""
    with ledger.transaction(durable=True) as connection:
        for column, added in (("environment", environment), ("fingerprints", fingerprints)):
            if added:
                connection.execute(
                    f"UPDATE run_document SET {column} = json_patch({column}, ?) WHERE run = ?",
                    (json.dumps(dict(added)), run.id),
                )


def progress(ledger: Ledger, run: Run, *, step: int, steps: int, ends: float | None) -> None:
    """Where the run is: optimizer steps done and to do, and the time it is expected to end."""
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET step = ?, steps = ?, ends = ? WHERE id = ?", (step, steps, ends, run.id))


def set_result(ledger: Ledger, run: Run, *, kind: str, path: str) -> None:
    """The result: `adapter` or `model`, at `path` relative to the run's folder."""
    with ledger.transaction(durable=True) as connection:
        connection.execute("UPDATE run SET result_kind = ?, result_path = ? WHERE id = ?", (kind, path, run.id))


def set_conditions(ledger: Ledger, run: Run, *, gpu: str, comparable: str) -> None:
    """What the run is trained on, and which runs' validation losses may be held against its own (see the schema)."""
    with ledger.transaction(durable=True) as connection:
        connection.execute("UPDATE run SET gpu = ?, comparable = ? WHERE id = ?", (gpu, comparable, run.id))


def set_measured_memory(ledger: Ledger, run: Run, mib: float) -> None:
    """The most memory the run's process was seen to hold, in MiB."""
    with ledger.transaction() as connection:
        connection.execute(
            "UPDATE run SET measured_mib = max(?, coalesce(measured_mib, 0)) WHERE id = ?", (mib, run.id)
        )
