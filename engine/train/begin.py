"""Where a run goes on: at its newest whole checkpoint, after a look at whether it is still the same run; else at step 0."""

from __future__ import annotations

from pathlib import Path

from engine.ledger import checkpoints
from engine.train import chain, checkpoint, folders, identity, keep, reference
from engine.train.checkpoint import Progress
from engine.train.control import Control
from engine.train.loop import Loop
from engine.train.parts import Parts


def begin(parts: Parts) -> Loop:
    """A loop at the newest whole checkpoint, or at step 0.

    Raises:
        Problem: the profile has changed its meaning since that checkpoint, or others train it than did.
    """
    folder = parts.run.folder / "checkpoints"
    found = checkpoint.newest(folder)
    for damaged, wrong in found.damaged.items():
        aside = checkpoint.put_aside(damaged)
        checkpoints.remove(parts.ledger, parts.run.id, step=checkpoint.step_of(damaged))
        text = f"Checkpoint {damaged.name} is damaged and was put aside as {aside.name}: {wrong}"
        parts.event("damaged", text, level="warning")
    if found.path:
        _check_identity(parts, found.path)
    if not found.path or not reference.stands(parts):
        chain.start(parts)
    parts = reference.give(parts)
    progress = Progress()
    if found.path:
        progress = checkpoint.restore(found.path, parts.loaded.model, parts.optimizer)
        _restore_best(parts, folder, found.path, progress)
        parts.event("resumed", f"Resumed from {found.path.name}", step=progress.step)
    elif found.damaged or parts.run.step:
        parts.event("resumed", "There was no whole checkpoint: started again from the beginning")
    control = Control(parts.ledger, parts.run.id, after=progress.order)
    return Loop(parts, progress, control, saved_at=progress.step)


def _restore_best(parts: Parts, folder: Path, resumed: Path, progress: Progress) -> None:
    """The best result may be newer than the checkpoint that the run goes back to: write it again from its own checkpoint."""
    best = folder / checkpoint.name(progress.best_step)
    if not progress.best_step or folders.damage(best):
        return
    checkpoint.restore_weights(best, parts.loaded.model)
    keep.publish(parts, progress, "best")
    checkpoint.restore_weights(resumed, parts.loaded.model)


def _check_identity(parts: Parts, resumed: Path) -> None:
    """Refuse another run; say what keeps this one from ending bit for bit as it would have."""
    made = checkpoint.identity(resumed)
    odd = identity.check(made, identity.of(parts.profile, parts.loaded.device)) if made else []
    if odd:
        text = f"From here on not bit for bit as without an interruption: {'; '.join(odd)}"
        parts.event("identity", text, step=checkpoint.step_of(resumed), level="warning")
