"""Put an imported run into a ledger: new the first time, then only what its source has gained.

Points are held against those that stand, so that reading a source again, in part or whole, adds nothing that is there.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np

from engine.errors import Problem
from engine.ledger import events, labels, metrics, runs, sealing
from engine.ledger.exchange.imported import Imported, Points
from engine.ledger.packing import Packer, Row
from engine.ledger.states import State
from engine.ledger.store import Ledger

END_UNKNOWN: Final = "end unknown"
"""The cause of a run whose source does not tell how it ended: it is called stopped, never finished."""
LATEST: Final = 1e11  # seconds since the epoch: the year 5138
PORTION: Final = 2 * sealing.SEGMENT  # rows of a transaction: a training that logs meanwhile waits for a moment only
WATCHED: Final = "watched"
"""The source of a run that was followed as it trained (`engine.watching`); its environment keeps the uids of what it is made of."""
OWN: Final = "it was trained with this ledger"
BINNED: Final = "it is in the bin"


@dataclass(frozen=True)
class Added:
    """What an import did: the run's uid and name here, whether it is new, how many points were added or replaced.

    `left` says why the run was left as it is; empty where it was not.
    """

    uid: str
    name: str
    new: bool
    points: int
    left: str = ""


def add(ledger: Ledger, imported: Imported, *, runs_folder: Path, name: str = "") -> Added:
    """Make the imported run, called `name` if that is given, or bring the one that stands up to date.

    Its folder is `runs_folder`/UID, which is not made: the source keeps its files. A run of this uid that was trained here,
    imported from another kind of source, or thrown away is left as it is. An import that is interrupted is finished by the next.

    Raises:
        Problem: the ledger is read-only or its disk is full; what was written so far stands.
    """
    if not abs(imported.created) < LATEST:  # NaN too
        imported = replace(imported, created=time.time())
    with ledger.transaction(durable=True) as connection:
        row = connection.execute("SELECT id, name, source, deleted FROM run WHERE uid = ?", (imported.uid,)).fetchone()
        if row is None and (watched := _watched(connection, imported.uid)):
            return Added(*watched, new=False, points=0, left="it was watched as it trained")
        if row is None:
            run, called = _create(connection, imported, runs_folder, name)
        else:
            run, called, source, deleted = row
            if source != imported.kind or deleted is not None:
                why = BINNED if deleted is not None else f"it was imported from {source}" if source else OWN
                return Added(imported.uid, called, new=False, points=0, left=why)
    points = 0
    new = rows(_news(ledger, run, imported))
    while portion := list(islice(new, PORTION)):
        with ledger.transaction() as connection:
            Packer(run).write(connection, portion)
            sealing.seal(connection, run)
        points += sum(len(each.names) for each in portion)
    with ledger.transaction(durable=True) as connection:
        _bring_up_to_date(connection, run, imported)
    return Added(imported.uid, called, new=row is None, points=points)


def _watched(connection: sqlite3.Connection, uid: str) -> tuple[str, str] | None:
    """Uid and name of the watched run that this is a part of."""
    found: tuple[str, str] | None = connection.execute(
        "SELECT r.uid, r.name FROM run r JOIN run_document d ON d.run = r.id, json_each(d.environment, '$.watched.uids') part"
        " WHERE r.source = ? AND r.deleted IS NULL AND part.value = ? LIMIT 1",
        (WATCHED, uid),
    ).fetchone()
    return found


def _create(connection: sqlite3.Connection, imported: Imported, runs_folder: Path, name: str) -> tuple[int, str]:
    """The run's rows, without points; its id and its name."""
    called = runs.free_name(connection, runs.as_name(name or imported.name, imported.uid))
    folder = str(runs_folder / imported.uid)
    run = connection.execute(
        "INSERT INTO run (uid, name, created, folder, state, cause, note, source, sweep) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(imported.uid, called, imported.created, folder, State.STOPPED, END_UNKNOWN),
            *(imported.note, imported.kind, imported.sweep),
        ),
    ).lastrowid
    assert run is not None
    environment = {**imported.environment, "imported_from": str(imported.path)}
    connection.execute(
        "INSERT INTO run_document (run, profile, environment) VALUES (?, '', ?)", (run, json.dumps(environment))
    )
    for tag in filter(None, map(_as_tag, imported.tags)):
        connection.execute("INSERT OR IGNORE INTO tag (run, name) VALUES (?, ?)", (run, tag))
    events.insert(connection, "import", f"imported from {imported.path} ({imported.kind})", run=run)
    return run, called


def _as_tag(word: str) -> str:
    """Somebody's tag as one that can be written in a filter; empty where there is none in it."""
    try:
        return labels.checked_tag("-".join(word.replace(",", " ").split())[: labels.LONGEST])
    except Problem:
        return ""


def _bring_up_to_date(connection: sqlite3.Connection, run: int, imported: Imported) -> None:
    """How far the run is and how it ended, where the source is no older than what stands; settings; what could not be read."""
    stood = connection.execute("SELECT step, steps, gpu, state, cause FROM run WHERE id = ?", (run,)).fetchone()
    step, steps, gpu, state, cause = stood
    if imported.state is not None and (imported.step >= step or not imported.points):
        state, cause = imported.state, imported.cause
    elif imported.state is None and imported.step > step and state == State.FINISHED:  # it was gone on with
        state, cause = State.STOPPED, END_UNKNOWN
    now = (max(step, imported.step), imported.steps or steps, imported.gpu or gpu, state, cause)
    if now != stood:
        connection.execute(
            "UPDATE run SET step = ?, steps = ?, gpu = ?, state = ?, cause = ? WHERE id = ?", (*now, run)
        )
    if imported.settings:
        settings = json.dumps(dict(sorted(imported.settings.items())))
        connection.execute(
            "UPDATE run_document SET settings = ? WHERE run = ? AND settings <> ?", (settings, run, settings)
        )
    for trouble in imported.troubles:
        told = connection.execute("SELECT 1 FROM event WHERE run = ? AND kind = 'import' AND text = ?", (run, trouble))
        if told.fetchone() is None:
            events.insert(connection, "import", trouble, run=run, level="warning")


def _news(ledger: Ledger, run: int, imported: Imported) -> Iterator[tuple[str, Points]]:
    """Of each key the points that do not stand with the same value; those without a sensible time have that of the run."""
    for key, each in imported.points.items():
        stood = metrics.curve(ledger, run, key)
        if len(stood.steps):
            place = np.minimum(np.searchsorted(stood.steps, each.steps), len(stood.steps) - 1)
            there, value = stood.steps[place] == each.steps, stood.values[place]
            new = ~(there & ((value == each.values) | (np.isnan(value) & np.isnan(each.values))))
            each = Points(each.steps[new], each.times[new], each.values[new])
        if len(each.steps):
            sensible = np.abs(each.times) < LATEST  # false for NaN
            yield key, replace(each, times=np.where(sensible, each.times, imported.created))


def rows(points: Iterable[tuple[str, Points]]) -> Iterator[Row]:
    """Points as the ledger takes them: keys that have the same steps and times are one row a step, as if logged together."""
    groups: dict[tuple[bytes, bytes], list[tuple[str, Points]]] = {}
    for key, each in points:
        groups.setdefault((each.steps.tobytes(), each.times.tobytes()), []).append((key, each))
    for group in groups.values():
        names = tuple(key for key, _ in group)
        first = group[0][1]
        values = np.stack([each.values for _, each in group], axis=1)
        for step, when, row in zip(first.steps.tolist(), first.times.tolist(), values.tolist(), strict=True):
            yield Row(0, step, when, names, tuple(row))
