"""Opening a ledger to look at it: unlike starting a run, that never makes one."""

from __future__ import annotations

from pathlib import Path

from engine.errors import Problem
from engine.ledger import Ledger, beside_runs
from workbench import settings


def existing_ledger(path: Path) -> Ledger:
    """The ledger at `path`.

    Raises:
        Problem: there is none, or it cannot be opened.
    """
    if not path.exists():
        copies = beside_runs.found(settings.load().runs_folder)
        if copies:
            raise Problem(
                f"There is no ledger at {path}",
                f"A copy of one lies beside the runs: {copies[0]}",
                "Bring it back: workbench ledger restore",
                code="ledger",
            )
        raise Problem(
            f"There is no ledger at {path}",
            "The first run makes one.",
            "Start a run (workbench train PROFILE), or name another ledger with --ledger.",
            code="ledger",
        )
    return Ledger.open(path)
