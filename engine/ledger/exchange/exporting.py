"""What the ledger knows of runs as a file, whose name says in which form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from engine.errors import Problem, closest
from engine.ledger.exchange import documents, portable, tables
from engine.ledger.exchange.tables import Progress
from engine.ledger.runs import Run
from engine.ledger.store import Ledger

FORMS: Final[Mapping[str, str]] = {
    ".csv": "the metrics, a row a point",
    ".parquet": "the same as Parquet",
    ".json": "everything that the ledger has of them",
    ".db": "the same as a ledger, for --ledger",
}


def write(
    ledger: Ledger,
    chosen: Sequence[Run],
    to: Path,
    *,
    replace: bool = False,
    progress: Progress = lambda done, total: None,
) -> int:
    """Write the runs to the file `to`; returns its bytes.

    Raises:
        Problem: its name says no known form, it is there already (code `exists`; not with `replace`), or it cannot be written; what
            stood there is untouched.
    """
    suffix = to.suffix.lower()
    if suffix not in FORMS:
        raise Problem(
            f"{to.name} does not say what it is to be{closest(suffix, FORMS)}",
            "Known are " + ", ".join(f"{known} ({what})" for known, what in FORMS.items()) + ".",
            code="export",
        )
    if to.exists() and not replace:
        raise Problem(f"{to} is there already", do="Name another file, or replace it: --force", code="exists")
    match suffix:
        case ".csv":
            tables.write_csv(ledger, chosen, to, progress)
        case ".parquet":
            tables.write_parquet(ledger, chosen, to, progress)
        case ".json":
            documents.write(ledger, chosen, to, progress)
        case _:
            portable.write(ledger, chosen, to, progress, replace=replace)
    return to.stat().st_size
