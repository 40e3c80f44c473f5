"""A training job from its row in the ledger to its result: the story of a run.

It always goes on from the newest whole checkpoint in the run's folder; a new run has none and starts from the base.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Final

import torch

from engine import profile_file
from engine.data import prepare
from engine.data.tokenizer import load_tokenizer
from engine.errors import Problem
from engine.ledger import Ledger, jobs, metrics, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.profile import Profile
from engine.train import (
    device,
    fingerprints,
    folders,
    identity,
    inventory,
    keep,
    model,
    objective,
    optimizer,
    packing,
    result,
    sharded,
    watch,
)
from engine.train.begin import begin
from engine.train.loop import Loop
from engine.train.parts import Parts
from engine.train.ranks import ALONE, Ranks, replicated
from engine.train.scorer import Scorer

LETTING_GO: Final = 10.0  # seconds that the kernel may take to end a killed process that held GPU memory


def run(ledger: Ledger, job: Job, ranks: Ranks = ALONE) -> None:
    """Train the job's run to its end and write its result; on several `ranks` each calls it.

    Raises:
        KeyboardInterrupt: it was stopped; its message says where.
        Problem: it cannot be trained, or cannot go on.
    """
    found = runs.by_id(ledger, job.run) if job.run is not None else None
    if found is None:
        raise Problem("The run of this job was deleted", code="run")
    with ExitStack() as held:
        with ranks.in_turn():
            if ranks.writes:
                held.enter_context(_lock(found.folder))
                for place in ("checkpoints", "adapter", "model"):
                    folders.tidy(found.folder / place)
        known = profile_file.parse(runs.document(ledger, found).profile, found.folder / "profile.toml")
        resolved = identity.own_profile(known, found.folder)
        with metrics.Writer(ledger, found.id) as writer:
            where = device.choose(resolved.hardware)  # before a download that may take an hour
            jobs.beat(ledger, job, doing="looking at the base model")
            with ranks.in_turn():
                base = _base(ledger, found, resolved) if ranks.writes else None
            parts = _set_up(ledger, job, found, resolved, where, writer, ranks)
            loop = begin(parts)
            loop.train()
            _finish(parts, loop)
            if base:
                base.join()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Nobody else trains in this folder, from whatever ledger. One that was just killed may need a moment to let go."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LETTING_GO
        while not _locked(handle):
            if time.monotonic() > deadline:
                why = f"It holds {folder / 'lock'}."
                raise Problem("Another process trains this run", why, "Wait for it or stop it.", code="running")
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _base(ledger: Ledger, found: Run, resolved: Profile) -> Thread:
    """Fetch the base and take its fingerprint beside the work; a resumed run has to find the base that it began with.

    Raises:
        Problem: its files have changed since.
    """
    folder = model.fetch(resolved.model)
    known = runs.document(ledger, found).fingerprints.get("base")
    if known is not None and fingerprints.of_base(folder) != known:
        raise Problem(
            f"The base model {resolved.model.base} has changed since {found.name} began",
            "Its files have another fingerprint: weights learned on one base mean nothing on another.",
            "Put the files back, or start the profile anew.",
            code="changed",
        )
    return fingerprints.in_background(folder, lambda base: runs.record(ledger, found, fingerprints={"base": base}))


def _set_up(
    ledger: Ledger,
    job: Job,
    found: Run,
    resolved: Profile,
    where: torch.device,
    writer: metrics.Writer,
    ranks: Ranks,
) -> Parts:
    """Device, data, model and optimizer, each said before it is begun."""

    def doing(what: str) -> None:
        jobs.beat(ledger, job, doing=what)

    training = resolved.training
    # The order of additions depends on it, so a run keeps the number it began with.
    threads = runs.document(ledger, found).environment.get("threads")
    exact = training.deterministic or where.type == "cpu"
    thread_count = threads if isinstance(threads, int) else device.threads()
    device.set_up(where, seed=training.seed, deterministic=exact, thread_count=thread_count)
    doing("reading the data")
    tokenizer = load_tokenizer(resolved.model.base, resolved.model.revision)
    with ranks.in_turn():
        prepared = _prepared(resolved, found.folder, ledger, job)
    runs.record(ledger, found, fingerprints={"data": prepared.fingerprint})
    doing("loading the model")
    cut = ranks.world > 1 and resolved.hardware.sharding == "shard"
    loaded = _loaded(resolved, where, tokenizer.vocabulary, cut=cut)
    stock = inventory.take(loaded.model, resolved)
    known = watch.environment(loaded, torch.get_num_threads())
    runs.record(ledger, found, environment={**known, "inventory": stock.detail()})
    asked = objective.make(training)
    scorer = Scorer(loaded.model, loaded.autocast)
    if cut:
        sharded.shard(scorer, loaded.model, where, ranks.world)
    doing("trying how rows may share a forward pass")
    chosen = packing.choose(loaded, scorer, resolved, tokenizer.pad_id)
    parts = Parts(
        ledger=ledger,
        run=found,
        job=job,
        profile=resolved,
        prepared=prepared,
        tokenizer=tokenizer,
        loaded=loaded,
        scorer=replicated(scorer, where) if ranks.world > 1 and not cut else scorer,
        layout=chosen.layout,
        objective=asked,
        validation_objective=asked,
        optimizer=optimizer.make(loaded.model, training, where),
        writer=writer,
        ranks=ranks,
    )
    ranks.seed(training.seed)
    if not found.step:
        parts.event("inventory", stock.text(), step=0, level="warning" if stock.notes else "info")
    for sentence in chosen.refused:
        parts.event("packing", sentence)
    return parts


def _loaded(resolved: Profile, where: torch.device, vocabulary: int, *, cut: bool) -> model.Loaded:
    """The model; one that is to be `cut` beside the GPU, which may be too small for it. 4 bits are only made on the device."""
    beside = cut and resolved.model.quantization == "none"
    loaded = model.load(resolved, torch.device("cpu") if beside else where, vocabulary=vocabulary)
    return replace(loaded, device=where)


def _prepared(resolved: Profile, folder: Path, ledger: Ledger, job: Job) -> prepare.Prepared:
    """The data as tokens: what this run prepared before, else prepared now. A source that changed since does not change the run."""
    if (folder / "prepared" / "rows.json").is_file():
        return prepare.load(folder)
    return prepare.prepare(
        resolved, folder, lambda done, total: jobs.beat(ledger, job, done=done, total=total, doing="reading the data")
    )


def _finish(parts: Parts, loop: Loop) -> None:
    """Write the last weights beside the best, and say what the result is."""
    jobs.beat(parts.ledger, parts.job, doing="writing the result")
    keep.publish(parts, loop.progress, "last")
    kind = result.kind(parts.profile.method)
    best = loop.progress.best_step
    text = f"Finished at step {loop.progress.step}; the {kind} is that of step {best or loop.progress.step}"
    parts.event("finished", text, step=loop.progress.step)
