"""Keeping what a run has reached: checkpoints with their rows in the ledger, and the result at its best and at its last step."""

from __future__ import annotations

import time
from typing import Final

from engine import folders
from engine.errors import Problem
from engine.ledger import artifacts, checkpoints, runs
from engine.train import checkpoint, identity, result
from engine.train.checkpoint import Progress
from engine.train.parts import Parts

MB: Final = 1e6  # bytes; disks are counted in decimal units, on the screens too


def save(parts: Parts, progress: Progress) -> None:
    """Publish a checkpoint, then what follows from it: the ledger's row, the best result, room for the next one. All ranks call it.

    Raises:
        Problem: there is no room for it, it holds numbers that are not finite, or the metrics before it could not be committed.
        OSError: the disk filled up meanwhile.
    """
    began = time.perf_counter()
    parent = parts.run.folder / "checkpoints"
    folder, size = checkpoint.save(
        parent,
        parts.loaded.model,
        parts.optimizer,
        progress,
        made=identity.of(parts.profile, parts.loaded.device, parts.layout),
        before_rename=lambda: _commit_metrics(parts),
        ranks=parts.ranks,
    )
    is_best = progress.best_step == progress.step
    checkpoints.add(
        parts.ledger,
        parts.run.id,
        step=progress.step,
        path=folder.relative_to(parts.run.folder).as_posix(),
        size=size,
        validation=progress.validation if progress.validated == progress.step else None,
        best=is_best,
    )
    if is_best:
        publish(parts, progress, "best")
    if parts.ranks.writes:
        checkpoint.prune(
            parent,
            keep=parts.profile.training.keep,
            best_step=progress.best_step,
            forget=lambda step: checkpoints.remove(parts.ledger, parts.run.id, step=step),
        )
    parts.writer.log(progress.step, {"time/save": time.perf_counter() - began})
    parts.event("checkpoint", f"Checkpoint {folder.name}, {size / MB:,.1f} MB", step=progress.step)
    parts.ranks.wait()


def publish(parts: Parts, progress: Progress, which: str) -> None:
    """Write the present weights as the run's `best` or `last` result; the best is what the run is known by, where there is one."""
    kind = result.kind(parts.profile.method)
    folder = parts.run.folder / kind / which
    result.write(folder, parts.loaded, parts.profile.model, parts.ranks)
    parts.ranks.wait()  # none may end, or meet the next trouble, while the first still writes
    known = folders.published_fingerprint(folder)
    artifacts.add(parts.ledger, parts.run, kind, folder, size=folders.published_bytes(folder), fingerprint=known)
    if which == "best" or not progress.best_step:
        runs.set_result(parts.ledger, parts.run, kind=kind, path=f"{kind}/{which}")
        runs.record(parts.ledger, parts.run, fingerprints={"result": known})


def _commit_metrics(parts: Parts) -> None:
    """No checkpoint may be newer than the metrics before it: resuming behind them would leave a gap."""
    if not parts.writer.flush():
        raise Problem(
            "The metrics up to this checkpoint could not be written to the ledger",
            f"{parts.writer.trouble or 'Something else holds its lock'}.",
            "Free space where the ledger is, then resume the run.",
            code="disk" if "full" in parts.writer.trouble else "ledger",
        )
