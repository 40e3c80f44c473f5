"""Start a job's process so that nothing about this one can end it, bury it when it has ended, and interrupt it.

The child is detached: a session of its own, output to a file (never a pipe that somebody must drain), and where the user has a systemd
manager a scope of its own, because logind's KillUserProcesses ends whatever is left in the login's scope.
"""

from __future__ import annotations

import getpass
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

from engine import machine
from engine.errors import Problem
from engine.ledger import Ledger, runs
from engine.ledger.jobs import Job
from engine.ledger.states import LIVE
from engine.places import private_folder

SCOPE: Final = ("systemd-run", "--user", "--scope", "--quiet", "--collect")
PROBE_TIMEOUT: Final = 5.0  # seconds for systemd to say whether it makes scopes
# OpenMP threads wait for each other by spinning, for milliseconds if nobody says otherwise. Beside other busy processes that made a
# small model's step ten times slower (measured: two threads on two loaded cores, 76 s against 6.4 s for 30 steps).
SPINS: Final = "1000"

_children: list[subprocess.Popen[bytes]] = []


def spawn(ledger: Ledger, job: Job) -> None:
    """Start the job's process, detached, in its run's folder (its log's folder where it has no run).

    Raises:
        Problem: the folder or the log cannot be made.
    """
    run = runs.by_id(ledger, job.run) if job.run is not None else None
    folder = run.folder if run else job.log.parent
    # -P and PYTHONSAFEPATH: a folder of the user's that is named engine/ must not be imported in place of ours.
    command = [sys.executable, "-P", "-m", "engine", job.uid, "--ledger", str(ledger.path.absolute())]
    try:
        private_folder(folder)
        private_folder(job.log.parent)
        log = os.open(job.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Problem(
            f"Cannot write the log {job.log}",
            f"{error.strerror}.",
            "Choose another runs folder in the settings.",
            code="disk",
        ) from error
    bury()
    try:
        child = subprocess.Popen(
            [*SCOPE, *command] if _scopes_work() else command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={"GOMP_SPINCOUNT": SPINS, **os.environ, "PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )
    finally:
        os.close(log)
    _children.append(child)


def bury() -> None:
    """Reap this process's ended children; a zombie would keep its pid and look half alive."""
    _children[:] = [child for child in _children if child.poll() is None]


def interrupt(job: Job) -> None:
    """Ask a job on this machine to stop after a checkpoint (SIGTERM); asked twice, it stops at once.

    Raises:
        Problem: it has ended, works on another machine, is only just starting, or its process is gone.
    """
    if job.state not in LIVE:
        raise Problem(f"The job is {job.state}", "There is nothing to stop.", code="ended")
    here = machine.here()
    if job.pid is None:
        raise Problem("The job is only just starting", do="Try again in a moment.", code="starting")
    if (job.host, job.pid_namespace) != (here.host, here.pid_namespace):
        raise Problem(
            f"The job works on {job.host}, not here",
            "A process can be signalled only from its own machine.",
            "Give it a stop order instead, or go there.",
            code="elsewhere",
        )
    try:
        # A pidfd first, then the start time: the pid cannot be given to another process between the two.
        process = os.pidfd_open(job.pid)
    except ProcessLookupError:
        process = -1
    try:
        if process < 0 or job.boot_id != here.boot_id or machine.started(job.pid) != job.pid_started:
            raise Problem("The job's process is gone", do="Resume the run to go on from its checkpoint.", code="lost")
        signal.pidfd_send_signal(process, signal.SIGTERM)
    finally:
        if process >= 0:
            os.close(process)


@cache
def _scopes_work() -> bool:
    """Whether systemd makes scopes for this user that outlive the login: not in most containers, nor for one who does not linger.

    Without lingering the user's manager ends with the last login and takes its scopes along (systemd-run(1)): worse than no scope, where
    KillUserProcesses is off.
    """
    if not Path("/run/systemd/system").is_dir() or not Path("/var/lib/systemd/linger", getpass.getuser()).exists():
        return False
    try:
        probe = subprocess.run(
            [*SCOPE, "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0
