"""A job's process from outside: started detached, found again, killed, lost, gone on with; and how its endings are told apart."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from engine import __main__ as process
from engine import jobs as processes
from engine import launch, machine, profile_file, torchrun, turns
from engine.ending import Ending, explain
from engine.errors import Problem
from engine.ledger import Ledger, jobs, lock, metrics, orders, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import State
from engine.profile import flat
from tests.tiny import tiny_profile, write_rows

SAME = ("train/loss", "train/grad_norm", "train/rate", "train/tokens", "validation/loss")


LOOK = 0.02  # seconds


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until it holds, generously."""
    for _ in range(round(seconds / LOOK)):  # looks are counted, not the time: a machine may stand still
        if condition():
            return
        time.sleep(LOOK)
    raise AssertionError("it never came to hold")


@pytest.fixture
def run(ledger: Ledger, tiny_base: Path, tmp_path: Path) -> Run:
    """A run of 96 steps that nobody has started: some are left when the first few are seen."""
    return new_run(ledger, tiny_base, tmp_path, "first")


def new_run(ledger: Ledger, base: Path, folder: Path, name: str) -> Run:
    profile = tiny_profile(base, write_rows(folder / "rows.jsonl", 32), **{"training.epochs": 16})
    return runs.create(
        ledger, name=name, runs_folder=folder / "runs", profile=profile_file.dump(profile), settings=flat(profile)
    )


def new_job(ledger: Ledger, run: Run, **argument: object) -> Job:
    return jobs.create(ledger, "train", run=run.id, argument=argument, log=run.folder / "log.txt")


def test_killed_seen_as_lost_resumed_identical(ledger: Ledger, run: Run, tiny_base: Path, tmp_path: Path) -> None:
    for name in ("engine", "torch"):  # folders of the user's that a careless import would take for ours
        (run.folder / name).mkdir(parents=True)
        (run.folder / name / "__init__.py").write_text("raise ImportError('shadowed')")
    job = new_job(ledger, run)
    processes.spawn(ledger, job)
    until(lambda: runs.find(ledger, run.uid).step >= 4)
    here = jobs.get(ledger, job.uid)
    assert here.pid is not None and here.pid != os.getpid() and os.getsid(here.pid) == here.pid
    os.kill(here.pid, signal.SIGHUP)  # the terminal went away: nothing happens
    os.kill(here.pid, signal.SIGKILL)
    until(lambda: machine.started(here.pid or 0) is None)
    until(lambda: processes.bury() or not Path(f"/proc/{here.pid}").exists())  # its threads may end after it
    assert runs.find(ledger, run.uid).state is State.LOST
    with pytest.raises(Problem, match="gone"):
        processes.interrupt(jobs.get(ledger, job.uid))
    resumed = launch.resume(ledger, runs.find(ledger, run.uid))
    whole = new_run(ledger, tiny_base, tmp_path, "whole")
    other = new_job(ledger, whole)
    processes.spawn(ledger, other)
    for uid in (resumed.uid, other.uid):
        until(lambda uid=uid: jobs.get(ledger, uid).ended is not None)  # type: ignore[misc]
        ended = jobs.get(ledger, uid)
        assert ended.state is State.FINISHED, ended.message
    for key in SAME:
        one, two = (metrics.curve(ledger, each.id, key) for each in (run, whole))
        assert one.steps.tolist() == two.steps.tolist() and one.values.tolist() == two.values.tolist(), key
    for name in ("best", "last"):
        adapters = [each.folder / "adapter" / name / "adapter_model.safetensors" for each in (run, whole)]
        assert adapters[0].read_bytes() == adapters[1].read_bytes()
    assert (run.folder / "log.txt").stat().st_mode & 0o777 == 0o600


# LLaMA-Factory#8485, #8817: the page is closed, nobody reads the pipe that it has left, and training stalls once that is full.
def test_a_job_that_writes_megabytes_goes_on_though_nobody_reads_them(
    ledger: Ledger, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talkative = tmp_path / "talkative"
    talkative.mkdir()
    # Imported by every Python as it starts; a pipe holds 64 KiB.
    (talkative / "sitecustomize.py").write_text(
        "import sys\nfor s in (sys.stdout, sys.stderr): s.write('progress\\r' * 200_000)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(talkative), *filter(None, [os.environ.get("PYTHONPATH")])]))
    with turns.turn([("cpu",)], queue=False, wait=lambda what: None):
        job = new_job(ledger, run, queue=True)
        processes.spawn(ledger, job)
        until(lambda: jobs.get(ledger, job.uid).doing.startswith("waiting for the CPU: process "))
        orders.give(ledger, run.id, "stop")
        until(lambda: jobs.get(ledger, job.uid).ended is not None)
    assert jobs.get(ledger, job.uid).state is State.STOPPED
    assert job.log.read_bytes().count(b"progress\r") == 400_000


def pids_of_ranks(run: Run, ranks: int = 2) -> list[int]:
    """The processes of a run's ranks, once all have said who they are."""
    places = [run.folder / "ranks" / f"{rank}.pid" for rank in range(ranks)]
    until(lambda: all(place.exists() and place.read_text() for place in places))
    return [int(place.read_text()) for place in places]


def gone(pid: int) -> bool:
    return machine.started(pid) is None or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def run_of_two(ledger: Ledger, tiny_base: Path, tmp_path: Path) -> Run:
    """A run that two ranks train for long."""
    settings = {"hardware.ranks": 2, "training.micro_batch": 1, "training.epochs": 300, "training.evaluate_every": 500}
    profile = tiny_profile(tiny_base, write_rows(tmp_path / "rows.jsonl", 32), **settings)
    return runs.create(
        ledger, name="two", runs_folder=tmp_path / "runs", profile=profile_file.dump(profile), settings=flat(profile)
    )


def test_ranks_obey_orders_and_stop_together_behind_a_checkpoint(ledger: Ledger, run_of_two: Run) -> None:
    run = run_of_two
    job = new_job(ledger, run)
    processes.spawn(ledger, job)
    until(lambda: runs.find(ledger, run.uid).step >= 2)
    orders.give(ledger, run.id, "rate", 0.5)
    orders.give(ledger, run.id, "pause")
    until(lambda: jobs.get(ledger, job.uid).state is State.PAUSED)
    pids = pids_of_ranks(run)
    processes.interrupt(jobs.get(ledger, job.uid))
    until(lambda: jobs.get(ledger, job.uid).ended is not None)
    stopped = jobs.get(ledger, job.uid)
    assert stopped.state is State.STOPPED and "Stopped by signal at step" in stopped.message, stopped.message
    # The kernel ends them with their parent, which on a busy machine takes a moment.
    until(lambda: all(map(gone, pids)))
    step = runs.find(ledger, run.uid).step
    assert (run.folder / "checkpoints" / f"step-{step:06d}" / "manifest.json").is_file()


def test_no_rank_outlives_the_job_s_process(ledger: Ledger, run_of_two: Run) -> None:
    job = new_job(ledger, run_of_two)
    processes.spawn(ledger, job)
    pids = pids_of_ranks(run_of_two)
    here = jobs.get(ledger, job.uid).pid
    assert here is not None
    os.kill(here, signal.SIGKILL)
    until(lambda: all(map(gone, pids)))
    until(lambda: processes.bury() or not Path(f"/proc/{here}").exists())  # type: ignore[func-returns-value]


def test_a_killed_rank_is_named_and_not_the_connection_that_broke(ledger: Ledger, run_of_two: Run) -> None:
    job = new_job(ledger, run_of_two)
    processes.spawn(ledger, job)
    until(lambda: runs.find(ledger, run_of_two.uid).step >= 2)
    os.kill(pids_of_ranks(run_of_two)[1], signal.SIGKILL)
    until(lambda: jobs.get(ledger, job.uid).ended is not None)
    failed = jobs.get(ledger, job.uid)
    assert (failed.state, failed.cause) == (State.FAILED, "rank 1"), failed.message
    assert "SIGKILL" in failed.message and "Resume the run" in failed.message


@pytest.mark.parametrize(
    ("said", "exits", "state", "words"),
    [
        ({0: (State.FINISHED, ""), 1: (State.FINISHED, "")}, {}, State.FINISHED, ""),
        # The other is told that a connection broke, and says so later.
        ({1: (State.FAILED, "No room"), 0: (State.FAILED, "reset by peer")}, {1: 1, 0: 1}, State.FAILED, "No room"),
        ({0: (State.STOPPED, "at step 7"), 1: (State.FAILED, "reset by peer")}, {1: 1}, State.STOPPED, "at step 7"),
        ({0: (State.FAILED, "reset by peer")}, {0: 1, 1: -9}, State.FAILED, "Rank 1 ended without a word"),
        ({}, {1: 1}, State.FAILED, "Rank 1 ended without a word"),
        ({1: (State.FAILED, "No room")}, {0: -15, 1: 1}, State.FAILED, "No room"),
    ],
    ids=["finished", "failed", "stopped", "killed", "silent", "ended by torchrun"],
)
def test_a_job_ends_as_the_rank_says_that_ended_it(
    tmp_path: Path, said: dict[int, tuple[State, str]], exits: dict[int, int], state: State, words: str
) -> None:
    for rank, (how, message) in said.items():
        torchrun.say(tmp_path, rank, Ending(how, "", message))
    (tmp_path / "exits.json").write_text(json.dumps(exits))
    ending = torchrun.ending_of(tmp_path)
    assert ending.state is state and words in ending.message


def test_a_queued_job_waits_without_torch_and_can_be_stopped(ledger: Ledger, run: Run) -> None:
    with turns.turn([("cpu",)], queue=False, wait=lambda what: None):
        job = new_job(ledger, run, queue=True)
        processes.spawn(ledger, job)
        until(lambda: jobs.get(ledger, job.uid).doing.startswith("waiting for the CPU: process "))
        waiting = jobs.get(ledger, job.uid)
        assert waiting.state is State.QUEUED and jobs.seen_state(waiting) is State.QUEUED
        assert "libtorch" not in Path(f"/proc/{waiting.pid}/maps").read_text()
        orders.give(ledger, run.id, "stop")
        until(lambda: jobs.get(ledger, job.uid).ended is not None)
    assert jobs.get(ledger, job.uid).state is State.STOPPED
    assert not orders.waiting(ledger, run.id)
    second = new_job(ledger, run, queue=True)
    with turns.turn([("cpu",)], queue=False, wait=lambda what: None):
        processes.spawn(ledger, second)
        until(lambda: jobs.get(ledger, second.uid).doing.startswith("waiting for the CPU: process "))
        processes.interrupt(jobs.get(ledger, second.uid))
        until(lambda: jobs.get(ledger, second.uid).ended is not None)
    assert jobs.get(ledger, second.uid).state is State.STOPPED


def test_only_a_living_process_of_this_machine_is_interrupted(ledger: Ledger, run: Run) -> None:
    job = new_job(ledger, run)
    with pytest.raises(Problem, match="starting"):
        processes.interrupt(job)
    here = jobs.sign_in(ledger, job, pid=os.getpid())
    with pytest.raises(Problem, match="not here"):
        processes.interrupt(replace(here, host="elsewhere"))
    with pytest.raises(Problem, match="gone"):  # the pid is another process's by now
        processes.interrupt(replace(here, pid_started=1))
    with pytest.raises(Problem, match="finished"):
        processes.interrupt(replace(here, state=State.FINISHED))


def test_without_torch_the_job_says_what_to_install(ledger: Ledger, run: Run) -> None:
    job = new_job(ledger, run)
    code = "import sys; sys.modules['torch'] = None; from engine.__main__ import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, job.uid, "--ledger", str(ledger.path)], capture_output=True, check=False
    )
    ended = jobs.get(ledger, job.uid)
    assert done.returncode == 1
    assert (ended.state, ended.cause) == (State.FAILED, "torch")
    assert "pip install 'finetune-workbench[engine]'" in ended.message


def test_an_unknown_job_is_said_and_exits_2(ledger: Ledger) -> None:
    command = [sys.executable, "-P", "-m", "engine", "no-such-job", "--ledger", str(ledger.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "There is no job no-such-job" in done.stderr and "Traceback" not in done.stderr


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


class SafetensorError(Exception):
    """Named as safetensors names its own."""


@pytest.mark.parametrize(
    ("error", "state", "cause", "words"),
    [
        (Problem("No access", code="gated"), State.FAILED, "gated", "No access"),
        (OutOfMemoryError("CUDA out of memory"), State.FAILED, "OOM at 12", "micro_batch"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), State.FAILED, "OOM at 12", "micro_batch"),
        (OSError(errno.ENOSPC, "No space left on device"), State.FAILED, "disk", "resume"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), State.FAILED, "disk", "resume"),
        (sqlite3.OperationalError("database or disk is full"), State.FAILED, "disk", "resume"),
        (KeyboardInterrupt(), State.STOPPED, "signal", "while it was starting"),
        (KeyboardInterrupt("Stopped by order at step 3."), State.STOPPED, "order", "step 3"),
        (ModuleNotFoundError("No module named 'peft'", name="peft"), State.FAILED, "peft", "pip install"),
        (ZeroDivisionError("division by zero"), State.FAILED, "ZeroDivisionError", "log"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_ending_has_a_cause_and_a_way_on(error: BaseException, state: State, cause: str, words: str) -> None:
    ending = explain(error, step=12)
    assert (ending.state, ending.cause) == (state, cause)
    assert words in ending.message


def test_an_unexpected_error_is_logged_with_its_traceback(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    job = new_job(ledger, run)
    monkeypatch.setattr(turns, "places", lambda hardware: 1 / 0)
    ending = process._work(ledger, job)
    assert ending.state is State.FAILED and "Traceback" not in ending.message
    assert "ZeroDivisionError" in caplog.text and "Traceback" in caplog.text


def test_the_heart_beats_on_and_the_end_is_written_after_somebody_has_held_the_ledger_for_long(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "BEAT_EVERY", 0.02)
    monkeypatch.setattr(lock, "PATIENCE", 0.05)
    job = jobs.sign_in(ledger, new_job(ledger, run), pid=os.getpid())
    holder = lock.WriteLock(ledger.path.with_name("ledger.db.lock"))
    with process._heartbeat(ledger, job):
        with holder:
            until(lambda: caplog.text.count("heartbeat: ") >= 2)
        until(lambda: (jobs.get(ledger, job.uid).heartbeat or 0) > (job.heartbeat or 0))
    with ThreadPoolExecutor(1) as pool:
        with holder:
            end = pool.submit(process._end, ledger, job, Ending(State.FINISHED))
            until(lambda: "cannot be written yet" in caplog.text)
        end.result()
    assert jobs.get(ledger, job.uid).state is State.FINISHED
