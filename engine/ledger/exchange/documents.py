"""Everything that the ledger has of runs as one JSON document, for people's own programs, and back.

A run has its row (`run`, `document`), its `tags`, what lies in rows of its own (`jobs`, `events`, `orders`, `checkpoints`, `artifacts`,
`evaluations` with their `items`) and its `metrics`, by key three lists: `steps`, `times`, `values`. JSON has no NaN and no infinities:
they are the texts NaN, Infinity and -Infinity. Columns are named as in `engine.ledger.schema`; ids of rows are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import orjson

from engine.atomic import replacing
from engine.errors import Problem
from engine.ledger import merging, metrics, runs, schema
from engine.ledger.exchange import rebuilding
from engine.ledger.exchange.tables import Progress
from engine.ledger.merging import Merged
from engine.ledger.runs import Run
from engine.ledger.store import Ledger, Value

FORMAT: Final = "workbench runs"
NOT_TOLD: Final = frozenset({"id", "run", "changed", "evaluation"})
Document = dict[str, object]


def write(ledger: Ledger, chosen: Sequence[Run], to: Path, progress: Progress) -> None:
    """Write the runs to the file `to`.

    Raises:
        Problem: it cannot be written; what stood there is untouched.
    """
    with replacing(to) as part, part.open("wb") as file:
        head = orjson.dumps({"format": FORMAT, "schema": schema.VERSION})
        file.write(head[:-1] + b',"runs":[\n')
        for done, run in enumerate(chosen, 1):
            file.write(orjson.dumps(of_run(ledger, run)) + (b",\n" if done < len(chosen) else b"\n"))
            progress(done, len(chosen))
        file.write(b"]}\n")


def of_run(ledger: Ledger, run: Run) -> Document:
    """Everything that the ledger has of the run."""
    told: Document = {
        "run": _table(ledger, "run", "id = ?", run.id)[0],
        "document": _table(ledger, "run_document", "run = ?", run.id)[0],
        "tags": [row[0] for row in ledger.rows("SELECT name FROM tag WHERE run = ? ORDER BY name", (run.id,))],
    }
    told["said"] = _table(ledger, "said", "run = ? ORDER BY what", run.id)
    for part, table in rebuilding.ROWS.items():
        told[part] = _table(ledger, table, "run = ? ORDER BY id", run.id)
    uids: dict[object, object] = dict(ledger.rows("SELECT id, uid FROM job WHERE run = ?", (run.id,)))
    for event in _objects(told["events"]):
        event["job"] = uids.get(event["job"])
    evaluations = _table(ledger, "evaluation", "run = ? ORDER BY id", run.id)
    for evaluation in evaluations:
        where = "evaluation = (SELECT id FROM evaluation WHERE uid = ?) ORDER BY item, variant"
        evaluation["items"] = _table(ledger, "item", where, str(evaluation["uid"]))
    curves = metrics.curves(ledger, run.id, metrics.keys(ledger, run.id))
    told["evaluations"] = evaluations
    told["metrics"] = {
        key: {
            "steps": curve.steps.tolist(),
            "times": curve.times.tolist(),
            "values": [_cell(value) for value in curve.values.tolist()],
        }
        for key, curve in curves.items()
    }
    return told


def _table(ledger: Ledger, table: str, where: str, value: Value) -> list[Document]:
    """Rows by column, without what numbers them."""
    names = [str(row[1]) for row in ledger.rows(f"PRAGMA table_info({table})") if row[1] not in NOT_TOLD]
    return [
        {
            name: _object(cell) if name in rebuilding.TEXTS_OF_JSON else _cell(cell)
            for name, cell in zip(names, row, strict=True)
        }
        for row in ledger.rows(f"SELECT {', '.join(names)} FROM {table} WHERE {where}", (value,))
    ]


def _cell(value: Value) -> Value:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _object(text: str) -> object:
    """What a text of JSON says; the text itself where NaN or an infinity is in it."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def is_document(path: Path) -> bool:
    """Whether the file begins as `write` begins one."""
    with path.open("rb") as file:
        return FORMAT.encode() in file.read(64)


def read(path: Path) -> list[Document]:
    """The runs in the file.

    Raises:
        Problem: it cannot be read, is not whole, or was written by a newer program.
    """
    try:
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise Problem(f"{path} cannot be read", f"{error.strerror}.", code="import") from error
    except orjson.JSONDecodeError as error:
        raise Problem(
            f"{path} is not whole", f"It is no JSON at line {error.lineno}.", "Export the runs again.", code="import"
        ) from error
    told = found if isinstance(found, dict) else {}
    if told.get("format") != FORMAT or not isinstance(version := told.get("schema"), int):
        raise Problem(f"{path} is not an export of runs", f'Its format is not "{FORMAT}".', code="import")
    if version > schema.VERSION:
        raise Problem(
            f"{path} was written by a newer Workbench",
            f"Its schema is {version}, this program knows {schema.VERSION}.",
            "Update with: pip install -U finetune-workbench",
            code="import",
        )
    return _objects(told.get("runs"))


def take(ledger: Ledger, path: Path, progress: Progress) -> Merged:
    """Bring the runs in the file into the ledger, as merging a ledger that has them does: what is there already stays.

    Raises:
        Problem: the file is not whole, or the ledger cannot be written.
    """
    there = read(path)
    uids = [str(rebuilding.part(told, "run", path).get("uid")) for told in there]
    kept = tuple(uid for uid, told in zip(uids, there, strict=True) if _stands(ledger, uid, told))
    new = [told for uid, told in zip(uids, there, strict=True) if uid not in kept]
    if not new:
        return Merged(kept=kept)
    with TemporaryDirectory(prefix=".importing-", dir=ledger.path.parent) as folder:
        with Ledger.open(Path(folder) / "ledger.db") as made:
            for told in new:
                rebuilding.insert(made, told, path)
        merged = merging.merge(ledger, Path(folder) / "ledger.db", progress=progress)
    return replace(merged, kept=(*kept, *merged.kept))


def _stands(ledger: Ledger, uid: str, told: Document) -> bool:
    """Whether the ledger has exactly this of the run."""
    row = ledger.rows("SELECT id FROM run WHERE uid = ?", (uid,))
    there = runs.by_id(ledger, int(row[0][0])) if row else None
    return there is not None and orjson.loads(orjson.dumps(of_run(ledger, there))) == told


def _objects(found: object) -> list[Document]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
