"""One rank of a job, started by torchrun: `python -m engine.rank JOB --ledger PATH`.

Rank 0 writes the ledger and hears signals; the others read the ledger and what they write goes nowhere, so that the work itself need not
ask at every turn who it is.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from engine import process, torchrun
from engine.assignment import profile_of, run_of, step_of
from engine.ending import Ending, explain
from engine.errors import Problem
from engine.ledger import Ledger, jobs, schema
from engine.ledger.jobs import Job
from engine.ledger.states import State

log = logging.getLogger("engine")


class Onlooker(Ledger):
    """A ledger to read as it is, whose transactions write to an empty one in memory."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Use `Onlooker.open`."""
        super().__init__(path, read_only=True)
        self._own = RLock()
        self._scratch = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        for statements in schema.MIGRATIONS:
            for statement in statements:
                self._scratch.execute(statement)

    @contextmanager
    def transaction(self, *, durable: bool = False, beside: str = "") -> Iterator[sqlite3.Connection]:
        """A connection to write to in vain."""
        with self._own:
            self._scratch.execute("BEGIN")
            try:
                yield self._scratch
            finally:
                self._scratch.execute("ROLLBACK")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do a rank's part of the job; returns the exit status: 0, or 1 where torchrun has to end the other ranks."""
    parser = argparse.ArgumentParser(prog="python -m engine.rank", description="Do a rank's part of a job.")
    parser.add_argument("job", help="its uid")
    parser.add_argument("--ledger", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    process.end_with_parent()
    rank, folder = int(os.environ["RANK"]), Path(os.environ[torchrun.FOLDER])
    process.listen(f"rank {rank}")
    if rank:
        process.be_deaf()
    torchrun.sign_in(folder, rank)
    kind = Onlooker if rank else Ledger
    with kind.open(chosen.ledger) as ledger:
        ending = _work(ledger, jobs.get(ledger, chosen.job))
        process.be_deaf()  # torchrun ends all when one has failed: not before this one has said why
        torchrun.say(folder, rank, ending)
    return int(ending.state is State.FAILED)


def _work(ledger: Ledger, job: Job) -> Ending:
    try:
        hardware = profile_of(ledger, run_of(ledger, job)).hardware
        importlib.import_module("sqlite_utils")  # slow; its first use would otherwise be inside a transaction
        ranks = importlib.import_module("engine.train.ranks")
        work = importlib.import_module("engine.train.job")
        with ranks.joined("cpu" if hardware.device == "cpu" else "cuda") as these:
            work.run(ledger, job, these)
    except BaseException as error:
        ending = explain(error, step=step_of(ledger, job))
        if ending.state is State.FAILED and not isinstance(error, Problem):
            log.error("The rank failed", exc_info=error)
        return ending
    return Ending(State.FINISHED)


if __name__ == "__main__":
    sys.exit(main())
