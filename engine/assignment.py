"""What a job is to do: the run that it is for, and that run's profile."""

from __future__ import annotations

import sqlite3

from engine import profile_file
from engine.errors import Problem
from engine.ledger import Ledger, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.profile import Profile


def run_of(ledger: Ledger, job: Job) -> Run:
    """The run that a job is for.

    Raises:
        Problem: it was deleted (code `run`).
    """
    found = runs.by_id(ledger, job.run) if job.run is not None else None
    if found is None:
        raise Problem("The run of this job was deleted", code="run")
    return found


def profile_of(ledger: Ledger, run: Run) -> Profile:
    """The resolved profile that a run was started with, as the ledger keeps it.

    Raises:
        Problem: it cannot be read, as by a version that does not know one of its keys.
    """
    return profile_file.parse(runs.document(ledger, run).profile, run.folder / "profile.toml")


def step_of(ledger: Ledger, job: Job) -> int:
    """The step behind which the job's run is, as far as the ledger can still say; else 0."""
    try:
        return run_of(ledger, job).step
    except (Problem, sqlite3.Error):
        return 0
