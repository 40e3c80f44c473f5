"""Removing a run for good: its rows first, then its files."""

from __future__ import annotations

import json
import shutil

from engine.errors import Problem
from engine.ledger import Ledger, jobs, runs
from engine.ledger.runs import Run
from engine.ledger.states import LIVE


def refuse_if_used(ledger: Ledger, run: Run) -> None:
    """Nothing, unless a process trains or evaluates the run, or another run cannot be without it.

    Raises:
        Problem: so it is; it says which.
    """
    if run.state in LIVE:
        raise Problem(f"{run.name} is {run.state}", "A process works on it.", "Stop it first.", code="running")
    for job in jobs.live(ledger):
        named = json.loads(job.argument).get("runs", [])
        if jobs.seen_state(job) in LIVE and (job.run == run.id or run.uid in named):
            raise Problem(
                f"{run.name} is being used",
                f"A job of kind {job.kind} works on it (process {job.pid}).",
                "Wait for it to end.",
                code="running",
            )
    for child in runs.listed(ledger):
        if child.parent != run.uid:
            continue
        if child.state in LIVE:
            why = f"{child.name} is {child.state} and goes on from it."
            raise Problem(f"{run.name} is being used", why, "Wait for it to end.", code="running")
        if run.result_kind == "model" and child.result_kind != "model":
            raise Problem(
                f"{run.name} is the base model of {child.name}",
                f"{child.name} could neither be resumed nor used without it.",
                f"Delete {child.name} first.",
                code="base",
            )


def size(run: Run) -> int:
    """Bytes of the run's files; 0 where there are none."""
    total = 0
    for path in run.folder.rglob("*"):
        try:
            total += 0 if path.is_dir() else path.lstat().st_size
        except FileNotFoundError:  # a checkpoint that was just replaced
            continue
    return total


def remove(ledger: Ledger, run: Run) -> None:
    """Delete the run's rows, then its folder.

    Raises:
        Problem: a process uses it (nothing was removed), or files could not be removed (the rows are gone).
    """
    refuse_if_used(ledger, run)
    runs.delete(ledger, run)
    # Only a folder that we made ourselves, which is named by the uid, is ever removed.
    if run.folder.name != run.uid or not run.folder.is_dir():
        return
    try:
        shutil.rmtree(run.folder)
    except OSError as error:
        raise Problem(
            f"{run.name} is out of the ledger, but files are left in {run.folder}",
            f"{error.strerror}.",
            "Remove the folder by hand.",
            code="disk",
        ) from error
