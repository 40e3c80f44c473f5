"""Runs as a ledger of their own: one file that opens with --ledger anywhere, also where nothing may be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.errors import Problem
from engine.ledger import copies, merging
from engine.ledger.exchange.tables import Progress
from engine.ledger.runs import Run
from engine.ledger.store import Ledger


def write(ledger: Ledger, chosen: Sequence[Run], to: Path, progress: Progress, *, replace: bool = False) -> None:
    """Write everything that the ledger has of the runs to the file `to`; their files stay where they are.

    Raises:
        Problem: `to` is there already (and not to be replaced) or cannot be written.
    """
    to = to.absolute()
    copies.refuse_place(ledger.path, to, replace=replace)
    try:
        folder = TemporaryDirectory(prefix=".exporting-", dir=to.parent)
    except OSError as error:
        raise Problem(f"{to} cannot be written", f"{error.strerror}.", "Choose another place.", code="disk") from error
    with folder as name:
        with Ledger.open(Path(name) / "ledger.db") as made:
            merging.merge(made, ledger.path, only={run.uid for run in chosen}, progress=progress)
        copies.archive(Path(name) / "ledger.db", to, replace=replace)
