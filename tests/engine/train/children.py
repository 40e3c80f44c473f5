"""Jobs in forked children: the fork server imports torch, transformers and peft once, a run then starts in a fraction of a second."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["engine.train.job", "sqlite_utils"])
KEPT = ("WORKBENCH_HOME", "TMPDIR", "HF_HUB_OFFLINE", "HF_HOME", "OMP_NUM_THREADS")


def start(
    ledger: Path,
    uid: str,
    *,
    kill_at: int = 0,
    count_to: Path | None = None,
    disk: Path | None = None,
    prepare: Callable[[], None] | None = None,
) -> ForkServerProcess:
    """A child that does the job as `python -m engine` would.

    `kill_at`: SIGKILL at that moment, counted over everything that touches disk, ledger or weights; `count_to`: write their number.
    `disk`: a folder to mount a small tmpfs on, seen by the child alone. `prepare`: called first, in the child.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    child = CONTEXT.Process(target=_child, args=(str(ledger), uid, environment, kill_at, count_to, disk, prepare))
    child.start()
    return child


def finish(child: ForkServerProcess, deadline: float = 300) -> int:
    """The child's exit status; -9 for one that was killed."""
    child.join(deadline)
    assert child.exitcode is not None, "the child did not end"
    return child.exitcode


def _child(
    ledger: str,
    uid: str,
    environment: dict[str, str],
    kill_at: int,
    count_to: Path | None,
    disk: Path | None,
    prepare: Callable[[], None] | None,
) -> None:
    os.environ.update(environment)
    if disk:
        mount_small_disk(disk)
    if prepare:
        prepare()
    moments = _count_moments(kill_at) if kill_at or count_to else None
    from engine.__main__ import main

    code = main([uid, "--ledger", ledger])
    if count_to and moments:
        count_to.write_text(json.dumps(moments))
    sys.stdout.flush()
    sys.exit(code)


def _count_moments(kill_at: int) -> list[int]:
    """Count every sync, rename, commit and use of the weights from now on; kill this process at number `kill_at`."""
    from engine.ledger import Ledger
    from engine.train import step

    counted = [0]
    guard = threading.Lock()

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            with guard:
                counted[0] += 1
                if counted[0] == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    for place, name in (
        (os, "fsync"),
        (os, "rename"),
        (os, "replace"),
        (step, "forward_backward"),
        (step, "update"),
        (Ledger, "transaction"),
    ):
        setattr(place, name, watched(getattr(place, name)))
    return counted


def mount_small_disk(folder: Path, size: str = "300k") -> None:
    """A tmpfs on `folder` that only this process and its children see: full disks without being root."""
    import ctypes

    uid, gid = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    new_user, new_mounts = 0x10000000, 0x00020000
    if libc.unshare(new_user | new_mounts):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()):
        raise OSError(ctypes.get_errno(), "mount")


class AtStep:
    """In the child: after these updates do these things. `SIGKILL`, `SIGTERM`: to itself; else an order, as `rate 0.5`."""

    def __init__(self, ledger: Path, run: int, doings: dict[int, str | list[str]]) -> None:
        self.ledger = ledger
        self.run = run
        self.doings = doings

    def __call__(self) -> None:
        """Put itself around the update."""
        from engine.ledger import Ledger, orders
        from engine.train import step

        update = step.update
        ledger = Ledger.open(self.ledger)
        done = 0

        def updating(optimizer: Any) -> None:
            nonlocal done
            update(optimizer)
            done += 1
            doing = self.doings.get(done, [])
            for what in [doing] if isinstance(doing, str) else doing:
                if what.startswith("SIG"):
                    os.kill(os.getpid(), signal.Signals[what])
                else:
                    verb, _, value = what.partition(" ")
                    orders.give(ledger, self.run, verb, float(value) if value else None)  # type: ignore[arg-type]

        step.update = updating


class AllOf:
    """In the child: several preparations, the first the innermost."""

    def __init__(self, *preparations: Callable[[], None]) -> None:
        self.preparations = preparations

    def __call__(self) -> None:
        """Prepare for all of them."""
        for prepare in self.preparations:
            prepare()


class OutOfMemory:
    """In the child: behind this many updates, forward passes over more than `rows` rows run out of memory, `times` of them at most.

    The first pass of a step still fits, so that gradients and random numbers of a failed attempt are there to be got rid of.
    """

    def __init__(self, *, behind: int, rows: int, evaluating: bool = False, times: int = 1_000_000) -> None:
        self.behind = behind
        self.rows = rows
        self.evaluating = evaluating
        self.times = times

    def __call__(self) -> None:
        """Put itself around the forward pass and the update."""
        import torch

        from engine.train import step
        from engine.train.scorer import Scorer

        update, forward = step.update, Scorer.forward
        updates = passes = failed = 0

        def updating(optimizer: Any) -> None:
            nonlocal updates
            update(optimizer)
            updates += 1

        def scoring(scorer: Any, batch: Any) -> Any:
            nonlocal passes, failed
            found = forward(scorer, batch)
            if updates >= self.behind and len(batch.ids) > self.rows and scorer.model.training is not self.evaluating:
                passes += 1
                if passes > 1 and failed < self.times:
                    failed += 1
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return found

        step.update, Scorer.forward = updating, scoring  # type: ignore[method-assign]
