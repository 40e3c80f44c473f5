"""Starting work: a run and its job in the ledger, its folder, and the detached process; going on with one run or all; evaluations."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from engine import jobs as processes
from engine import machine, removal, turns
from engine.assignment import profile_of
from engine.atomic import write_text
from engine.errors import Problem
from engine.fit import recorded
from engine.fit.settling import Answering
from engine.ledger import Ledger, jobs, orders, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from engine.places import private_folder
from engine.profile import Profile, flat
from engine.profile_file import dump
from engine.resolve import Resolved, resolve
from engine.storage import free_bytes

LOOK: Final = 0.2  # seconds
NEEDED: Final = ("torch", "transformers", "peft")


def start_training(ledger: Ledger, profile: Profile, *, name: str, runs_folder: Path, queue: bool = False) -> Run:
    """Resolve the profile, write run, folder and job, and start the process; with `queue` it waits for its GPU first.

    A name that is taken gets a number.

    Raises:
        Problem: what `resolve` refuses; no room on the disk; the folder cannot be made. The ledger is then as it was.
    """
    return start_resolved(ledger, resolved(ledger, profile), name=name, runs_folder=runs_folder, queue=queue)


def resolved(ledger: Ledger, profile: Profile, simulator: Answering | None = None) -> Resolved:
    """The profile resolved, where what it needs is installed: first look at its `doubts`, then `start_resolved`.

    Raises:
        Problem: what `resolve` refuses, or something is not installed.
    """
    check_installed()
    return resolve(profile, ledger, simulator)


def start_resolved(ledger: Ledger, found: Resolved, *, name: str, runs_folder: Path, queue: bool = False) -> Run:
    """As `start_training`, for a profile that was resolved already."""
    check_installed()
    check_room(found, runs_folder)
    text = dump(found.profile)
    run = runs.create(
        ledger,
        name=name,
        runs_folder=runs_folder.expanduser().absolute(),
        profile=text,
        settings=flat(found.profile),
        steps=found.steps,
        parent=found.parent,
        predicted_mib=_predicted_mib(found),
        environment=recorded.kept(predicted=recorded.of_fit(found.prediction)) if found.prediction else None,
    )
    try:
        private_folder(runs_folder.expanduser())
        private_folder(run.folder)
        write_text(run.folder / "profile.toml", text)
    except OSError as error:
        _forget(ledger, run)
        raise Problem(
            f"The run's folder {run.folder} cannot be made",
            f"{error.strerror}.",
            "Choose another runs folder in the settings.",
            code="disk",
        ) from error
    except Problem:
        _forget(ledger, run)
        raise
    gpus = found.profile.hardware.gpus
    any_of = turns.alike(str(gpus[0])) if found.any_gpu and len(gpus) == 1 else ()
    _start(ledger, run, queue=queue, any_of=any_of)
    return runs.find(ledger, run.uid)


def _predicted_mib(resolved: Resolved) -> float | None:
    """The predicted GPU memory of the run's process. A CPU run's estimate is a lower bound, not to be held against what is measured."""
    predicted = resolved.prediction
    return predicted.predicted_process_mib if predicted and resolved.profile.hardware.device == "cuda" else None


def check_installed() -> None:
    """See that what training and evaluation need is installed, without importing it.

    Raises:
        Problem: it is not (code `install`).
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise Problem(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed",
            "Looking at data and comparing runs works without, training and evaluating do not.",
            'Install what is missing: pip install "finetune-workbench[engine]"',
            code="install",
        )


def check_room(resolved: Resolved, runs_folder: Path) -> None:
    """See that checkpoints and result find room beside what is on the disk.

    Raises:
        Problem: they do not (code `disk`).
    """
    free = free_bytes(runs_folder)
    if resolved.disk_bytes > free:
        binned = removal.bin_size(runs_folder.expanduser())
        empty = f"Empty the bin, which holds {_size(binned)}: workbench runs purge. Or free" if binned else "Free"
        raise Problem(
            f"The run needs {_size(resolved.disk_bytes)} for checkpoints and its result, {_size(free)} are free",
            f"They go to {runs_folder}.",
            f"{empty} some space, set training.keep lower, or choose another runs folder in the settings.",
            code="disk",
        )


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"


def resume(ledger: Ledger, run: Run, *, queue: bool = False) -> Job:
    """Start a process that goes on from the run's newest checkpoint, or from the beginning where there is none.

    Raises:
        Problem: the run is at work, has finished, was trained by something else, or its folder is gone.
    """
    if run.source:
        raise Problem(
            f"{run.name} was not trained by Workbench",
            "The program that trained it has its checkpoints.",
            "Go on with it where it was trained.",
            code="foreign",
        )
    if run.state in LIVE:
        raise Problem(
            f"{run.name} is {run.state}", "It needs no resuming.", "Wait for it, or stop it first.", code="running"
        )
    if run.state is State.FINISHED:
        raise Problem(
            f"{run.name} has finished",
            "All its steps are done.",
            f'To train on from its result: model.base = "run:{run.name}"',
            code="ended",
        )
    last = jobs.newest_training(ledger, run.id)
    if not run.folder.is_dir():
        if last is not None and last.host not in (None, machine.here().host):
            raise Problem(
                f"{run.name} was trained on {last.host}",
                f"Its checkpoints are there: {run.folder} is not on this machine.",
                f"Resume it on {last.host}, or start its profile anew here.",
                code="elsewhere",
            )
        raise Problem(
            f"The folder of {run.name} is gone",
            f"{run.folder} is not there, so neither are its checkpoints.",
            "Mount the disk it was on, or start the profile anew.",
            code="disk",
        )
    check_installed()
    return _start(ledger, run, queue=queue, any_of=json.loads(last.argument).get("any_of", ()) if last else ())


@dataclass(frozen=True)
class Resumed:
    """What became of a run in `resume_all`: the state it was in, and the problem that kept it so, if any."""

    run: Run
    was: State
    problem: Problem | None = None


def resume_all(ledger: Ledger, *, failed: bool = False) -> list[Resumed]:
    """Queue every run that a reboot, a preemption or a signal ended, and with `failed` those that failed; in the order in which they stood.

    What a person stopped, or was told to stop when its process died, stays so. One that cannot be resumed does not keep back the others.
    """
    check_installed()
    found = []
    for run in reversed(runs.listed(ledger)):
        job = jobs.newest_training(ledger, run.id)
        if run.source or job is None or any(order.verb == "stop" for order in orders.waiting(ledger, run.id)):
            continue
        if job.host != machine.here().host and not run.folder.is_dir():  # another machine's, merged into this ledger
            continue
        by_signal = run.state is State.STOPPED and job.cause == "signal"
        if run.state is State.LOST or by_signal or (failed and run.state is State.FAILED):
            found.append((run, job))
    # Those that were at work first, then the others as they stood in the queue.
    found.sort(key=lambda each: (each[1].state is State.QUEUED, each[1].turn or 0, each[1].id))
    # After a quick reboot hearts may have beaten just now: until they are silent for a while they could be another machine's of this name.
    over = time.monotonic() + jobs.FRESH
    while any(jobs.may_be_at_work(job) for _, job in found) and time.monotonic() < over:
        time.sleep(LOOK)
    return [_resumed(ledger, run) for run, _ in found]


def _resumed(ledger: Ledger, run: Run) -> Resumed:
    try:
        resume(ledger, run, queue=True)
    except Problem as problem:
        return Resumed(run, run.state, problem)
    return Resumed(runs.find(ledger, run.uid), run.state)


def start_evaluation(ledger: Ledger, run_list: Sequence[Run], suites: Sequence[str]) -> Job:
    """Start a process that asks runs and their base all items of suites.

    Raises:
        Problem: no run or no suite is named, or a run has no result yet.
    """
    if not run_list or not suites:
        missing = "run" if not run_list else "suite"
        raise Problem(f"No {missing} is named to evaluate", do=f"Name a {missing}.", code="evaluation")
    for run in run_list:
        if run.result is None:
            raise Problem(
                f"{run.name} has no result to evaluate yet",
                f"It is {run.state}.",
                "Wait until it has finished, or evaluate another.",
                code="evaluation",
            )
        _check_here(ledger, run, run.result)
    check_installed()
    first = run_list[0]
    argument: dict[str, object] = {"runs": [run.uid for run in run_list], "suites": list(suites)}
    return _spawned(ledger, first, "evaluate", argument, first.folder / "evaluate.txt")


def _check_here(ledger: Ledger, run: Run, result: Path) -> None:
    """See that the run's result is on this machine.

    Raises:
        Problem: it is not (code `elsewhere`).
    """
    if result.is_dir():
        return
    last = jobs.newest_training(ledger, run.id)
    do = "Mount the disk that it was on."
    if last is not None and last.host not in (None, machine.here().host):
        do = f"It was trained on {last.host}. Fetch it: workbench pull {last.host} --results {run.name}"
    raise Problem(
        f"The result of {run.name} is not on this machine", f"It should be in {result}.", do, code="elsewhere"
    )


def start_export(ledger: Ledger, run: Run, out: Path | None = None) -> Job:
    """Start a process that writes the run's result as a whole model to `out`, by default into the run's own folder.

    Raises:
        Problem: the run has no result yet or is at work, its method has nothing to merge, or the folder is taken.
    """
    if run.result is None:
        why = f"It is {run.state}."
        raise Problem(f"{run.name} has no result to export yet", why, "Wait until it has finished.", code="export")
    _check_here(ledger, run, run.result)
    if run.state in LIVE:
        why = f"It is {run.state}, and its result may be written anew at any moment."
        raise Problem(f"{run.name} is still at work", why, "Wait for it, or stop it first.", code="running")
    method = profile_of(ledger, run).method
    if method.learns_a_prompt:
        raise Problem(
            f"{run.name} cannot be merged: {method.name} learns virtual tokens, which no weight of a model can hold",
            "They stand before the text when the model is asked, and the base stays as it is.",
            f"Use the adapter as it is, with PeftModel.from_pretrained: {run.result}",
            code="export",
        )
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Problem(f"{out} is there already", "What is in it would be lost.", "Name a new folder.", code="export")
    check_installed()
    where = (out.expanduser().absolute() if out else run.folder / "export" / "merged").as_posix()
    return _spawned(ledger, run, "export", {"format": "merged", "out": where}, run.folder / "export.txt")


def _start(ledger: Ledger, run: Run, *, queue: bool, any_of: Sequence[str] = ()) -> Job:
    """The run's next training job; `any_of` are the GPUs of which it may take any, when it is queued."""
    argument: dict[str, object] = {"queue": queue, "any_of": list(any_of)}
    return _spawned(ledger, run, "train", argument, run.folder / "log.txt")


def _spawned(ledger: Ledger, run: Run, kind: jobs.Kind, argument: dict[str, object], log: Path) -> Job:
    """A job in the ledger and its process; a process that cannot be started leaves the job failed, with the reason."""
    job = jobs.create(ledger, kind, run=run.id, argument=argument, log=log)
    try:
        processes.spawn(ledger, job)
    except (Problem, OSError) as error:
        jobs.set_state(ledger, job, State.FAILED, cause="start", message=str(error))
        raise
    return jobs.get(ledger, job.uid)


def _forget(ledger: Ledger, run: Run) -> None:
    """Take back a run whose folder could not be made. It has no job, so nothing is lost."""
    with ledger.transaction(durable=True) as connection:
        connection.execute("DELETE FROM run WHERE id = ?", (run.id,))
