"""Where a run goes on: at its newest whole checkpoint, after a look at whether it is still the same run; else at step 0."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from engine import folders
from engine.data import prepare
from engine.fit.question import Phase
from engine.ledger import checkpoints, jobs
from engine.train import chain, checkpoint, identity, keep, reference
from engine.train.backoff import Backoff
from engine.train.checkpoint import Found, Progress
from engine.train.control import Control
from engine.train.loop import Loop
from engine.train.parts import Parts


def begin(parts: Parts) -> Loop:
    """A loop at the newest whole checkpoint, or at step 0.

    Raises:
        Problem: the profile has changed its meaning since that checkpoint, or others train it than did.
    """
    folder = parts.run.folder / "checkpoints"
    found = parts.ranks.tell(_newest(parts, folder) if parts.ranks.writes else Found(None, {}))
    if found.path:
        _check_identity(parts, found.path)
    if not found.path or not reference.stands(parts):
        chain.start(parts)
    parts = _with_reference(parts)
    progress = Progress()
    if found.path:
        progress = checkpoint.restore(found.path, parts.loaded.model, parts.optimizer, parts.ranks)
        _restore_best(parts, folder, found.path, progress)
        parts.event("resumed", f"Resumed from {found.path.name}", step=progress.step)
    elif found.damaged or parts.run.step:
        parts.event("resumed", "There was no whole checkpoint: started again from the beginning", level="warning")
    else:
        for finding in parts.prepared.findings:
            if finding.severity != "info":
                parts.event("data", finding.sentence, step=0, level="warning")
    control = Control(parts.ledger, parts.run.id, after=progress.order)
    return Loop(parts, progress, control, saved_at=progress.step)


def _with_reference(parts: Parts) -> Parts:
    """The parts with what the model says as the run begins, where the objective asks for that; in smaller pieces where they have to be."""

    def wait(what: str) -> None:
        jobs.beat(parts.ledger, parts.job, doing=what)
        time.sleep(1.0)

    fitting = Backoff(parts, Progress(), wait)
    given = fitting.attempt("reference", lambda layout: reference.give(replace(parts, layout=layout)))
    parts.memory.lap(Phase.EVALUATION)
    return replace(given, layout=parts.layout)


def _newest(parts: Parts, folder: Path) -> Found:
    """The newest whole checkpoint; newer ones that are damaged are put aside."""
    found = checkpoint.newest(folder)
    for damaged, wrong in found.damaged.items():
        aside = checkpoint.put_aside(damaged)
        checkpoints.remove(parts.ledger, parts.run.id, step=checkpoint.step_of(damaged))
        text = f"Checkpoint {damaged.name} is damaged and was put aside as {aside.name}: {wrong}"
        parts.event("damaged", text, level="warning")
    return found


def _restore_best(parts: Parts, folder: Path, resumed: Path, progress: Progress) -> None:
    """The best result may be newer than the checkpoint that the run goes back to: write it again from its own checkpoint."""
    best = folder / checkpoint.name(progress.best_step)
    if not progress.best_step or folders.damage(best):
        return
    checkpoint.restore_weights(best, parts.loaded.model)
    keep.publish(parts, progress, "best")
    checkpoint.restore_weights(resumed, parts.loaded.model)


def _check_identity(parts: Parts, resumed: Path) -> None:
    """Refuse another run; say what keeps this one from ending bit for bit as it would have, and sources that are not what was read."""
    made = checkpoint.identity(resumed)
    odd = identity.check(made, identity.of(parts.profile, parts.loaded.device, parts.layout)) if made else []
    if odd:
        text = f"From here on not bit for bit as without an interruption: {'; '.join(odd)}"
        parts.event("identity", text, step=checkpoint.step_of(resumed), level="warning")
    for source in prepare.changed_sources(parts.profile, parts.prepared):
        text = f"{source} is not what it was when the run began; it goes on with the rows that it read then"
        parts.event("data_changed", text, step=checkpoint.step_of(resumed), level="warning")
