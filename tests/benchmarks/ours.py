"""The engine's own training for the throughput benchmark: a real job in this process, with a note at the end of each step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine import profile_file
from engine.data import prepare
from engine.data.tokenizer import load_tokenizer
from engine.ledger import Ledger, jobs, metrics, runs
from engine.profile import Profile, flat
from engine.train import batches, begin, job
from engine.train.checkpoint import trained
from engine.train.loop import Loop
from engine.train.model import load
from tests.benchmarks import peers
from tests.benchmarks.marks import Marks
from tests.benchmarks.peers import Row


@dataclass(frozen=True)
class Ours:
    """What a training left behind: its marks, the rows that its steps saw, and the weights that it began with."""

    profile: Profile
    marks: Marks
    rows: list[Row]
    begun: dict[str, torch.Tensor]

    def model(self) -> Any:
        """The model as it began, for a peer to train."""
        base = self.profile.model.base
        loaded = load(self.profile, torch.device("cpu"), vocabulary=load_tokenizer(base).vocabulary)
        with torch.no_grad():
            for name, value in trained(loaded.model).items():
                value.copy_(self.begun[name])
        return loaded.model


def train(folder: Path, profile: Profile) -> Ours:
    """A run from its row in the ledger to its result; the loop is the real one."""
    marks = Marks()
    begun: dict[str, torch.Tensor] = {}

    class Noting(Loop):
        def train(self) -> None:
            for name, value in trained(self._parts.loaded.model).items():
                begun[name] = value.detach().to("cpu", copy=True)
            super().train()

        def _step(self) -> None:
            before = self.progress.tokens
            super()._step()
            marks.note()
            marks.supervised.append(self.progress.tokens - before)

    with Ledger.open(folder / "ledger.db") as ledger:
        text = profile_file.dump(profile)
        run = runs.create(ledger, name="run", runs_folder=folder / "runs", profile=text, settings=flat(profile))
        run.folder.mkdir(parents=True)
        made = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
        with _replaced(begin, "Loop", Noting):
            job.run(ledger, jobs.sign_in(ledger, made, pid=os.getpid()))
        marks.losses = metrics.curve(ledger, run.id, "train/loss").values.tolist()
    torch.use_deterministic_algorithms(False)  # what a run on a CPU always does; the peers compute as they come
    return Ours(profile, marks, _seen(prepare.load(run.folder).train, profile), begun)


@contextmanager
def _replaced(place: Any, name: str, value: object) -> Iterator[None]:
    stood = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, stood)


def _seen(tokens: prepare.Tokens, profile: Profile) -> list[Row]:
    """The rows of all steps, in their order."""
    found = []
    for step in range(1, (profile.training.max_steps or 0) + 1):
        for row in batches.rows_of(tokens, batches.examples_of_step(tokens.examples, step, profile.training)):
            inside = slice(int(tokens.starts[row]), int(tokens.starts[row + 1]))
            ids, counted = tokens.ids[inside].tolist(), tokens.supervised[inside].tolist()
            labels = [token if counts else peers.IGNORED for token, counts in zip(ids, counted, strict=True)]
            found.append({"input_ids": ids, "labels": labels})
    return found
