"""How safe a run is: `python -m tests.benchmarks.kill [--kills 30] [--json]`.

Kills the engine's process with SIGKILL at random moments, resumes the run, and compares it with one that was never interrupted: every byte of
its results (best and last) and every row of the metrics that must not depend on interruptions. Prints where each kill hit; asserts nothing.

Of six kills, two come from outside at a random time while the run trains, validates, saves or publishes; three at a random one of all
syncs, renames, commits and updates of the run, counted inside; one from outside into a process that was started cold, as
`python -m engine`. The others fork from a server that has torch loaded, which is all that they do not do themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine import profile_file
from engine.ledger import Ledger, jobs, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.profile import Data, Profile
from tests.engine.train import children
from tests.engine.train.conftest import Bench, result_bytes
from tests.tiny import make_llama, write_rows

DEADLINE: Final = 300.0  # seconds for a job on a busy machine
LOOK: Final = 0.002  # seconds
WORKING: Final = ("training", "validating", "saving a checkpoint")
CONFIGURATIONS: Final[dict[str, dict[str, object]]] = {
    "lora packed": {"training.packing": True},
    "nf4": {"model.quantization": "nf4", "training.packing": True},
    "full bfloat16": {"method.name": "full", "model.dtype": "bfloat16", "training.learning_rate": 1e-4},
    "adamw_8bit": {"training.optimizer": "adamw_8bit", "model.dtype": "bfloat16"},
    "dpo": {"training.objective": "dpo", "method.dropout": 0.0},
}


@dataclass(frozen=True)
class Whole:
    """A run that was never interrupted: what a killed one must come to, how long it trained, and its countable moments."""

    results: dict[str, bytes]
    story: dict[str, list[tuple[int, float]]]
    seconds: float
    moments: int


@dataclass(frozen=True)
class Kill:
    """One kill and what came of it."""

    configuration: str
    way: str
    hit: str
    identical: bool
    different: str


def main() -> None:
    """Kill and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"WORKBENCH_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with Ledger.open(folder / "home" / "ledger.db") as ledger:
            bench = Bench(ledger, make_llama(folder / "base"), write_rows(folder / "rows.jsonl", 32), folder)
            kills = list(attempts(bench, options.kills, random.Random(options.seed)))
    same = sum(kill.identical for kill in kills)
    if options.json:
        where = [vars(kill) for kill in kills]
        figures = {"kills": len(kills), "identical": same, "seconds": time.monotonic() - begun, "where": where}
        print(json.dumps(figures, indent=1))
    else:
        print(f"{same} of {len(kills)} killed runs ended as one that was not, in {time.monotonic() - begun:.0f} s")
    sys.exit(same < len(kills))


def attempts(bench: Bench, count: int, draw: random.Random) -> Iterator[Kill]:
    """`count` kills over all configurations in turn, each told on stderr."""
    pairs = write_pairs(bench.folder / "pairs.jsonl", 32)
    wholes: dict[str, Whole] = {}
    for number in range(count):
        name = list(CONFIGURATIONS)[number % len(CONFIGURATIONS)]
        settings = {"training.epochs": 3, **CONFIGURATIONS[name]}
        profile = bench.profile(**settings)
        if name == "dpo":
            profile = profile.model_copy(update={"data": (Data(source=str(pairs)),)})
        if name not in wholes:
            wholes[name] = whole(bench, profile, name)
        way = ("time", "moment", "moment", "cold", "time", "moment")[number % 6]
        run = bench.run(profile, f"{name} {number}")
        kill = one(bench, run, wholes[name], name, way, draw)
        print(f"{number + 1:3} {name:14} {way:6} {kill.hit}: {kill.different or 'identical'}", file=sys.stderr)
        yield kill


def whole(bench: Bench, profile: Profile, name: str) -> Whole:
    """Train without interruption, counting the moments at which it could have been killed."""
    count = bench.folder / f"moments of {name}"
    run = bench.run(profile, name)
    job = bench.train(run, count_to=count)
    if job.state is not State.FINISHED:
        raise SystemExit(f"{name} does not train: {job.message}")
    seconds = (job.ended or 0.0) - (job.started or 0.0)
    return Whole(result_bytes(run), bench.story(run), seconds, json.loads(count.read_text())[0])


def one(bench: Bench, run: Run, expected: Whole, name: str, way: str, draw: random.Random) -> Kill:
    """Kill the run once, resume it to its end, compare."""
    hit = ""
    while not hit:  # a process that ended before it was hit was not killed
        job = bench.job(run)
        if way == "moment":
            killed = children.finish(
                children.start(bench.ledger.path, job.uid, kill_at=draw.randrange(1, expected.moments))
            )
            hit = where(bench, run, job) if killed == -signal.SIGKILL else ""
        else:
            hit = _from_outside(bench, run, job, cold=way == "cold", after=draw.uniform(0, 0.5 * expected.seconds))
        if not hit and jobs.get(bench.ledger, job.uid).state is State.FINISHED:
            run = bench.run(_profile(bench, run), f"{run.name} again")
    ended = bench.train(run)
    different = "" if ended.state is State.FINISHED else f"resuming ended as {ended.state}: {ended.message}"
    different = different or _difference(bench, run, expected)
    return Kill(name, way, hit, not different, different)


def _profile(bench: Bench, run: Run) -> Profile:
    return profile_file.parse(runs.document(bench.ledger, run).profile, run.folder / "profile.toml")


def _from_outside(bench: Bench, run: Run, job: Job, *, cold: bool, after: float) -> str:
    """Start the job's process, wait until it works and then `after` seconds, and kill it; where that hit, empty if it had ended."""
    if cold:
        command = [sys.executable, "-P", "-m", "engine", job.uid, "--ledger", str(bench.ledger.path)]
        with (run.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, cwd=run.folder, stdout=log, stderr=log)
        pid: int = process.pid

        def alive() -> bool:
            return process.poll() is None
    else:
        child = children.start(bench.ledger.path, job.uid)
        pid, alive = child.pid or 0, child.is_alive
    deadline = time.monotonic() + DEADLINE
    while alive() and jobs.get(bench.ledger, job.uid).doing not in WORKING and time.monotonic() < deadline:
        time.sleep(LOOK)
    end = time.monotonic() + after
    while alive() and time.monotonic() < end:
        time.sleep(LOOK)
    if not alive():
        return ""
    os.kill(pid, signal.SIGKILL)
    while alive():
        time.sleep(LOOK)
    return where(bench, run, job)


def where(bench: Bench, run: Run, job: Job) -> str:
    """What the killed process was at, as far as ledger and folders show it."""
    seen = jobs.get(bench.ledger, job.uid)
    half = [path.relative_to(run.folder).as_posix() for path in run.folder.glob("*/.*") if path.is_dir()]
    step = runs.find(bench.ledger, run.uid).step
    return f"{seen.doing or seen.state}, step {step}" + (f", half-written {', '.join(half)}" if half else "")


def _difference(bench: Bench, run: Run, expected: Whole) -> str:
    """What of a run's results and metric rows is not that of the run which was never interrupted."""
    found = result_bytes(run)
    files = [name for name in found.keys() | expected.results if found.get(name) != expected.results.get(name)]
    story = bench.story(run)
    curves = [key for key in story if story[key] != expected.story[key]]
    return ", ".join([*files, *curves])


def write_pairs(path: Path, count: int) -> Path:
    """Rows of a question with a chosen and a rejected answer."""
    rows = [
        {
            "prompt": f"Is recording {number} raised?",
            "chosen": "It is raised.",
            "rejected": "It is normal " * (1 + number % 3),
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


if __name__ == "__main__":
    main()
