"""A run on several GPUs: torchrun as a child of the job's process, and below it a process for each rank.

The job's process stays the one that the ledger knows: it holds the GPUs' locks, its heart beats, and signals reach it. All below it end with
it, for each process asks the kernel to be killed when its parent ends. A rank says how it ended in a file, so that the job fails with the
rank's own words and not with torchrun's.

    JOB'S PROCESS (`run`)  ->  this module as a program (`main`: torchrun)  ->  engine.rank, once a rank
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from engine import process
from engine.atomic import write_text
from engine.ending import Ending
from engine.ledger import Ledger
from engine.ledger.jobs import Job
from engine.ledger.states import State
from engine.places import private_folder
from engine.stopping import stopping

FOLDER: Final = "WORKBENCH_RANKS"  # names the folder in which ranks say who they are and how they ended
LOOK_EVERY: Final = 0.2  # seconds
# Seconds that ranks are left once one of them has failed: they may wait for it in a call that nothing interrupts.
GRACE: Final = 5
# Seconds that torchrun is left after rank 0 has ended: its own grace, and then it has to say which rank was killed.
TO_SAY_WHO: Final = 2 * GRACE
AT_ONCE: Final = "Stopped at once. Resuming goes on from the last checkpoint."


@dataclass(frozen=True)
class Said:
    """How a rank ended, and when (seconds since the epoch)."""

    rank: int
    at: float
    state: str
    cause: str
    message: str


def run(ledger: Ledger, job: Job, folder: Path, *, ranks: int, threads: int) -> Ending:
    """Do a training job on `ranks` processes of `threads` threads each; what they say of themselves goes into `folder`.

    Raises:
        KeyboardInterrupt: there was a second signal; all ranks are gone.
    """
    shutil.rmtree(folder, ignore_errors=True)
    private_folder(folder)
    with stopping(AT_ONCE) as stop:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.torchrun", str(ranks), job.uid, "--ledger", str(ledger.path)],
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONSAFEPATH": "1",
                "OMP_NUM_THREADS": str(threads),
                # All ranks are here, and nobody else is to hear them.
                "GLOO_SOCKET_IFNAME": "lo",
                "NCCL_SOCKET_IFNAME": "lo",
                process.PARENT: str(os.getpid()),
                FOLDER: str(folder),
            },
        )
        try:
            told, over = False, float("inf")
            while child.poll() is None and time.monotonic() < over:
                if stop.is_set() and not told:
                    told = _interrupt_rank_0(folder)
                if over == float("inf") and _said(folder, 0):
                    over = time.monotonic() + TO_SAY_WHO
                time.sleep(LOOK_EVERY)
        finally:
            child.kill()  # the ranks end with it
            child.wait()
    return ending_of(folder)


def sign_in(folder: Path, rank: int) -> None:
    """Called by a rank: it is here, as this process."""
    write_text(folder / f"{rank}.pid", str(os.getpid()))


def say(folder: Path, rank: int, ending: Ending) -> None:
    """Called by a rank: how it ended."""
    said = Said(rank, time.time(), ending.state, ending.cause, ending.message)
    write_text(folder / f"{rank}.json", json.dumps(asdict(said)))


def _interrupt_rank_0(folder: Path) -> bool:
    """Pass a signal on to the rank that decides for all; False while it is not there yet."""
    try:
        os.kill(int((folder / "0.pid").read_text()), signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return True


def _said(folder: Path, rank: int) -> Said | None:
    try:
        return Said(**json.loads((folder / f"{rank}.json").read_text()))
    except FileNotFoundError:
        return None


def ending_of(folder: Path) -> Ending:
    """What ended the run: a rank that was killed, else what the first rank to fail said, else what rank 0 said.

    A rank whose partner is gone fails as well, with words about a connection, but later.
    """
    try:
        exits: dict[str, int] = json.loads((folder / "exits.json").read_text())
    except FileNotFoundError:
        exits = {}
    everyone = [
        said for path in folder.glob("*.json") if path.stem.isdigit() and (said := _said(folder, int(path.stem)))
    ]
    silent = {int(rank): code for rank, code in exits.items() if not (folder / f"{rank}.json").exists()}
    for rank, code in silent.items():
        if code < 0 and code != -signal.SIGTERM:
            return _silent(rank, code)
    failed = [said for said in everyone if said.state == State.FAILED]
    decided = next((said for said in everyone if said.rank == 0 and said.state != State.FAILED), None)
    first = min(failed, key=lambda said: said.at, default=None)
    found = first if first and (decided is None or first.at < decided.at) else decided
    if found is None:
        return _silent(*next(iter(silent.items()), (0, 1)))
    return Ending(State(found.state), found.cause, found.message)


def _silent(rank: int, code: int) -> Ending:
    """A rank ended without a word."""
    if code < 0:
        name = signal.Signals(-code).name
        why = f"It was ended by {name}" + (", as Linux does when memory runs out." if code == -signal.SIGKILL else ".")
    else:
        why = f"It exited with {code}; the job's log may say more."
    advice = "Resume the run: it goes on from its last checkpoint. If it happens again, lower training.micro_batch."
    return Ending(State.FAILED, f"rank {rank}", f"Rank {rank} ended without a word\n{why}\n{advice}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The child: torchrun, which starts the ranks and ends all of them when one fails. Arguments: how many, then those of a rank."""
    process.end_with_parent()
    process.be_deaf()  # rank 0 hears for all; and only the job's process may end this one, by SIGKILL
    os.environ[process.PARENT] = str(os.getpid())
    count, *rest = sys.argv[1:] if arguments is None else arguments

    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as start

    standalone = ["--standalone", "--local-addr", "localhost", "--nproc-per-node", count]
    # torchrun's own handlers would end the ranks before they could save.
    own = ["--signals-to-handle", "SIGUSR1", "--shutdown-timeout", str(GRACE)]
    # Each rank sees its own GPU, and as the first.
    apart = ["--virtual-local-rank"] if os.environ.get("CUDA_VISIBLE_DEVICES") else []
    try:
        start(parse_args([*standalone, *own, *apart, "-m", "engine.rank", *rest]))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        exits = {rank: failure.exitcode for rank, failure in error.failures.items()}
        write_text(Path(os.environ[FOLDER]) / "exits.json", json.dumps(exits))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
