"""Runs of the tiny base for tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from engine import profile_file
from engine.ledger import Ledger, jobs, metrics, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.profile import Profile, flat
from engine.train import device
from tests.engine.train import children
from tests.tiny import tiny_profile, write_rows

SAME = ("train/loss", "train/grad_norm", "train/rate", "train/tokens", "train/epoch", "validation/loss")


@dataclass(frozen=True)
class Bench:
    """A ledger, a base and rows; makes runs and does their jobs."""

    ledger: Ledger
    base: Path
    data: Path
    folder: Path

    def profile(self, **settings: object) -> Profile:
        """The tiny profile with dotted settings."""
        return tiny_profile(self.base, self.data, **settings)

    def run(self, profile: Profile, name: str = "run") -> Run:
        """A run of it in the ledger, with its folder."""
        made = runs.create(
            self.ledger,
            name=name,
            runs_folder=self.folder / "runs",
            profile=profile_file.dump(profile),
            settings=flat(profile),
        )
        made.folder.mkdir(parents=True)
        return made

    def job(self, run: Run, **argument: object) -> Job:
        """A new job for it, as resuming makes one."""
        return jobs.create(
            self.ledger, "train", run=run.id, argument={"resume": True, **argument}, log=run.folder / "log.txt"
        )

    def train(self, run: Run, **how: object) -> Job:
        """Do a job of the run in a forked child, to its end."""
        job = self.job(run)
        children.finish(children.start(self.ledger.path, job.uid, **how))
        return jobs.get(self.ledger, job.uid)

    def at_step(self, run: Run, doings: dict[int, str | list[str]]) -> children.AtStep:
        """What a child does after these updates; see `children.AtStep`."""
        return children.AtStep(self.ledger.path, run.id, doings)

    def trained(self, name: str = "run", **settings: object) -> Run:
        """A finished run."""
        run = self.run(self.profile(**settings), name)
        job = self.train(run)
        assert job.state == "finished", job.message
        return runs.find(self.ledger, run.uid)

    def story(self, run: Run) -> dict[str, list[tuple[int, float]]]:
        """The metrics that must not depend on interruptions."""
        curves = {key: metrics.curve(self.ledger, run.id, key) for key in SAME}
        return {
            key: list(zip(curve.steps.tolist(), curve.values.tolist(), strict=True)) for key, curve in curves.items()
        }


def result_bytes(run: Run) -> dict[str, bytes]:
    """All files of a run's results."""
    found = {}
    for kind in ("adapter", "model"):
        for path in sorted((run.folder / kind).rglob("*")):
            if path.is_file():
                found[path.relative_to(run.folder).as_posix()] = path.read_bytes()
    return found


@pytest.fixture
def bench(ledger: Ledger, tiny_base: Path, tmp_path: Path) -> Bench:
    """An empty ledger, the tiny base and 32 rows, of which 24 are trained on: 6 steps an epoch."""
    return Bench(ledger, tiny_base, write_rows(tmp_path / "rows.jsonl", 32), tmp_path)


@pytest.fixture
def settled() -> Iterator[None]:
    """torch set up in this process as a run sets it up, seeded; other tests compute as they come."""
    device.set_up(torch.device("cpu"), seed=3, deterministic=True, thread_count=1)
    yield
    torch.use_deterministic_algorithms(False)
