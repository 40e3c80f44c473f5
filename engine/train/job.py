"""A training job from its row in the ledger to its result: the story of a run.

It always goes on from the newest whole checkpoint in the run's folder; a new run has none and starts from the base.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Final

import torch

from engine import folders, gpu, process
from engine.assignment import profile_of, run_of
from engine.data import prepare
from engine.data.tokenizer import load_tokenizer
from engine.errors import Problem
from engine.fit import context, recorded
from engine.fit.question import Phase
from engine.ledger import Ledger, jobs, metrics, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.profile import Profile
from engine.train import (
    device,
    fingerprints,
    generators,
    identity,
    inventory,
    keep,
    mirror,
    model,
    objective,
    optimizer,
    packing,
    pretrained,
    rehearse,
    result,
    sharded,
    watch,
)
from engine.train.begin import begin
from engine.train.comparable import comparable
from engine.train.loop import Loop
from engine.train.memory import MemoryWatch
from engine.train.parts import Parts
from engine.train.ranks import ALONE, Ranks, replicated
from engine.train.scorer import Scorer

LETTING_GO: Final = 10.0  # seconds that the kernel may take to end a killed process that held GPU memory


@dataclass(frozen=True)
class _Start:
    """What is known of a run before anything is read or loaded for it."""

    ledger: Ledger
    job: Job
    run: Run
    profile: Profile
    device: torch.device
    ranks: Ranks

    @property
    def cut(self) -> bool:
        """Whether each rank holds a part of the model only."""
        return sharded.wanted(self.profile.hardware, self.ranks)

    def doing(self, what: str, done: int | None = None, total: int | None = None) -> None:
        """Say what is begun, and how far it is."""
        jobs.beat(self.ledger, self.job, done=done, total=total, doing=what)


def run(ledger: Ledger, job: Job, ranks: Ranks = ALONE) -> None:
    """Train the job's run to its end and write its result; on several `ranks` each calls it.

    Raises:
        KeyboardInterrupt: it was stopped; its message says where.
        Problem: it cannot be trained, or cannot go on.
    """
    found = run_of(ledger, job)
    with ExitStack() as held:
        with ranks.in_turn():
            if ranks.writes:
                held.enter_context(_lock(found.folder))
                for place in ("checkpoints", "adapter", "model"):
                    folders.tidy(found.folder / place)
        resolved = identity.own_profile(profile_of(ledger, found), found.folder)
        if ranks.writes:
            mirror.start(ledger, job, found, resolved.training.mirror)
        with metrics.Writer(ledger, found.id) as writer:
            where = device.choose(resolved.hardware)  # before a download that may take an hour
            start = _Start(ledger, job, found, resolved, where, ranks)
            start.doing("looking at the base model")
            with ranks.in_turn():
                base = _base(start) if ranks.writes else None
            parts = _set_up(start, writer)
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


def _base(start: _Start) -> Thread:
    """Fetch the base and take its fingerprint beside the work; a resumed run has to find the base that it began with.

    Raises:
        Problem: its files have changed since.
    """
    ledger, run, settings = start.ledger, start.run, start.profile.model
    folder = pretrained.fetch(settings)
    known = runs.document(ledger, run).fingerprints.get("base")
    if known is not None and fingerprints.of_base(folder) != known:
        raise Problem(
            f"The base model {settings.base} has changed since {run.name} began",
            "Its files have another fingerprint: weights learned on one base mean nothing on another.",
            "Put the files back, or start the profile anew.",
            code="changed",
        )
    return fingerprints.in_background(folder, lambda base: runs.record(ledger, run, fingerprints={"base": base}))


def _set_up(start: _Start, writer: metrics.Writer) -> Parts:
    """Data, model and optimizer, each said before it is begun."""
    profile, ranks, where = start.profile, start.ranks, start.device
    _set_up_torch(start)
    start.doing("reading the data")
    tokenizer = load_tokenizer(profile.model.base, profile.model.revision)
    with ranks.in_turn():
        prepared = _prepared(start)
    runs.record(start.ledger, start.run, fingerprints={"data": prepared.fingerprint})
    names = ranks.gathered(torch.cuda.get_device_name(where)) if where.type == "cuda" else ()
    same = comparable(prepared.validation, profile, start.run)
    runs.set_conditions(start.ledger, start.run, gpu=gpu.short_names(names), comparable=same)
    start.doing("loading the model")
    watched = _memory_watch(start)
    loaded = _loaded(start, tokenizer.vocabulary)
    watched.lap(Phase.LOAD)
    stock = inventory.take(loaded.model, profile)
    known = watch.environment(loaded, torch.get_num_threads())
    runs.record(start.ledger, start.run, environment={**known, "inventory": stock.detail()})
    scorer = Scorer(loaded.model, loaded.autocast)
    if start.cut:
        sharded.shard(scorer, loaded.model, where, ranks.world)
    start.doing("trying how rows may share a forward pass")
    chosen = packing.choose(loaded, scorer, profile, tokenizer.pad_id)
    watched.lap(Phase.EVALUATION)
    costliest = recorded.kept(step=rehearse.largest(prepared.train, chosen.layout, profile.training, ranks.world))
    runs.record(start.ledger, start.run, environment={"rows": chosen.told, **costliest})
    asked = objective.make(profile.training)
    parts = Parts(
        ledger=start.ledger,
        run=start.run,
        job=start.job,
        profile=profile,
        prepared=prepared,
        tokenizer=tokenizer,
        loaded=loaded,
        scorer=replicated(scorer, where) if ranks.world > 1 and not start.cut else scorer,
        layout=chosen.layout,
        objective=asked,
        validation_objective=asked,
        optimizer=optimizer.make(loaded.model, profile.training, where),
        writer=writer,
        memory=watched,
        ranks=ranks,
    )
    if ranks.rank:  # the adapter's start, equal on all, has been drawn; each rank's dropout draws numbers of its own
        generators.seed(profile.training.seed + ranks.rank)
    if not start.run.step:  # a run that goes on has said it
        parts.event("inventory", stock.text(), step=0, level="warning" if stock.notes else "info")
        for sentence in chosen.refused:
            parts.event("packing", sentence, step=0)
    return parts


def _set_up_torch(start: _Start) -> None:
    """Seeds and threads. The order of additions depends on these, so a run keeps the number it began with."""
    training = start.profile.training
    known = runs.document(start.ledger, start.run).environment.get("threads")
    device.set_up(
        start.device,
        seed=training.seed,
        deterministic=training.deterministic or start.device.type == "cpu",
        thread_count=known if isinstance(known, int) else process.threads(),
    )


def _loaded(start: _Start, vocabulary: int) -> model.Loaded:
    """The model; one that is to be cut beside the GPU, which may be too small for it. 4 bits are only made on the device."""
    beside = start.cut and start.profile.model.quantization == "none"
    loaded = model.load(start.profile, torch.device("cpu") if beside else start.device, vocabulary=vocabulary)
    return replace(loaded, device=start.device)


def _memory_watch(start: _Start) -> MemoryWatch:
    """What will be taken, on top of what the run took before it was interrupted."""
    before = recorded.of(runs.document(start.ledger, start.run).environment).measured
    seen = gpu.first() if start.device.type == "cuda" else None
    known = context.of_gpu(start.ledger, seen) if seen else None
    return MemoryWatch(start.device, context_mib=known.mib if known else None, before=before)


def _prepared(start: _Start) -> prepare.Prepared:
    """The data as tokens: what this run prepared before, else prepared now. A source that changed since does not change the run."""
    folder = start.run.folder
    if (folder / "prepared" / "rows.json").is_file():
        return prepare.load(folder)
    return prepare.prepare(start.profile, folder, lambda done, total: start.doing("reading the data", done, total))


def _finish(parts: Parts, loop: Loop) -> None:
    """Write the last weights beside the best, and say what the result is."""
    jobs.beat(parts.ledger, parts.job, doing="writing the result")
    keep.publish(parts, loop.progress, "last")
    parts.memory.lap(Phase.SAVING)
    loop.tell()  # what writing took
    kind = result.kind(parts.profile.method)
    best = loop.progress.best_step
    text = f"Finished at step {loop.progress.step}; the {kind} is that of step {best or loop.progress.step}"
    parts.event("finished", text, step=loop.progress.step)
