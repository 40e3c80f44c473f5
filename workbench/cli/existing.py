"""Opening a ledger to look at it: unlike starting a run, that never makes one."""

from __future__ import annotations

from pathlib import Path

from engine.errors import Problem
from engine.ledger import Ledger


def existing_ledger(path: Path) -> Ledger:
    """The ledger at `path`.

    Raises:
        Problem: there is none, or it cannot be opened.
    """
    if not path.exists():
        raise Problem(
            f"There is no ledger at {path}",
            "The first run makes one.",
            "Start a run (workbench train PROFILE), or name another ledger with --ledger.",
            code="ledger",
        )
    return Ledger.open(path)
