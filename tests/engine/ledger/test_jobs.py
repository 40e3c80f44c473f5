"""Who is alive: boots, namespaces, reused pids, zombies, other machines; and who may start a second process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engine import machine
from engine.errors import Problem
from engine.ledger import Ledger, jobs, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import State


@pytest.fixture
def job(ledger: Ledger, run: Run, tmp_path: Path) -> Job:
    """A training job that this process has signed in to and runs."""
    made = jobs.create(ledger, "train", run=run.id, argument={"a": 1}, log=tmp_path / "log.txt")
    signed = jobs.sign_in(ledger, made, pid=os.getpid())
    jobs.set_state(ledger, signed, State.RUNNING)
    return jobs.get(ledger, signed.uid)


def test_a_job_goes_through_its_life_and_takes_its_run_along(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    job = jobs.create(ledger, "train", run=run.id, argument={"resume": True}, log=tmp_path / "log.txt")
    assert (job.state, job.pid, job.argument, job.log) == (State.QUEUED, None, '{"resume": true}', tmp_path / "log.txt")
    job = jobs.sign_in(ledger, job, pid=os.getpid())
    assert job.pid_started == machine.started(os.getpid())
    for state in (State.STARTING, State.RUNNING, State.PAUSED, State.STOPPING):
        jobs.set_state(ledger, job, state)
        assert runs.find(ledger, run.uid).state is state
        assert [live.uid for live in jobs.live(ledger)] == [job.uid]
    jobs.beat(ledger, job, done=7, total=9, doing="reading")
    jobs.beat(ledger, job, doing="reading")
    job = jobs.get(ledger, job.uid)
    assert (job.done, job.total, job.doing, job.ended) == (7, 9, "reading", None)
    jobs.beat(ledger, job, doing="saving")
    job = jobs.get(ledger, job.uid)
    assert (job.done, job.total, job.doing) == (0, None, "saving"), "what was counted was the reading"
    jobs.set_state(ledger, job, State.FAILED, cause="OOM at 7", message="The GPU's memory was full.")
    job = jobs.get(ledger, job.uid)
    assert (job.state, job.cause, job.message) == (State.FAILED, "OOM at 7", "The GPU's memory was full.")
    assert job.ended is not None
    assert (runs.find(ledger, run.uid).state, runs.find(ledger, run.uid).cause) == (State.FAILED, "OOM at 7")
    assert jobs.live(ledger) == []
    with pytest.raises(Problem, match="no job none"):
        jobs.get(ledger, "none")


def test_an_evaluation_leaves_the_state_of_its_run_alone(ledger: Ledger, run: Run, tmp_path: Path, job: Job) -> None:
    jobs.set_state(ledger, job, State.FINISHED)
    evaluation = jobs.create(ledger, "evaluate", run=run.id, argument={}, log=tmp_path / "evaluate.txt")
    jobs.set_state(ledger, evaluation, State.FAILED)
    assert runs.find(ledger, run.uid).state is State.FINISHED
    assert [recent.uid for recent in jobs.recent(ledger, "evaluate")] == [evaluation.uid]
    assert [each.kind for each in jobs.of_run(ledger, run.id)] == ["train", "evaluate"]


def test_a_living_process_is_seen_as_it_says(job: Job) -> None:
    assert jobs.seen_state(job) is State.RUNNING
    assert jobs.may_be_at_work(job)
    assert jobs.may_be_at_work(replace(job, heartbeat=1.0)), "a stopped process is not dead"
    ended = replace(job, state=State.FINISHED, pid_started=1)
    assert jobs.seen_state(ended) is State.FINISHED
    assert not jobs.may_be_at_work(ended)


def test_a_pid_that_another_process_has_now_is_lost(job: Job) -> None:
    assert job.pid_started
    reused = replace(job, pid_started=job.pid_started - 1)
    assert jobs.seen_state(reused) is State.LOST
    assert not jobs.may_be_at_work(reused), "however fresh its heartbeat: this machine has looked"


def test_a_killed_process_is_lost_while_it_is_a_zombie_and_after(job: Job) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], stdout=-1)
    assert child.stdout
    child.stdout.readline()
    theirs = replace(job, pid=child.pid, pid_started=machine.started(child.pid))
    assert jobs.seen_state(theirs) is State.RUNNING
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet buried
    assert Path(f"/proc/{child.pid}").exists()
    assert jobs.seen_state(theirs) is State.LOST
    child.wait()
    assert jobs.seen_state(theirs) is State.LOST


def test_after_a_reboot_a_job_is_lost_but_a_machine_of_the_same_name_is_given_time(job: Job) -> None:
    rebooted = replace(job, boot_id="another boot")
    assert jobs.seen_state(rebooted) is State.LOST
    assert job.heartbeat
    assert jobs.may_be_at_work(rebooted, now=job.heartbeat + jobs.FRESH - 1), "two machines may have one name"
    assert not jobs.may_be_at_work(rebooted, now=max(job.heartbeat, job.created) + jobs.FRESH + 1)


@pytest.mark.parametrize(
    "elsewhere", [{"host": "other", "boot_id": "theirs", "pid_namespace": "pid:[1]"}, {"pid_namespace": "pid:[1]"}]
)
def test_a_job_elsewhere_is_never_lost_but_may_be_resumed_when_it_has_long_been_silent(
    ledger: Ledger, run: Run, job: Job, tmp_path: Path, elsewhere: dict[str, str]
) -> None:
    theirs = replace(job, **elsewhere, pid=1, pid_started=1)  # type: ignore[arg-type]
    assert jobs.seen_state(theirs, now=time.time() + 1e6) is State.RUNNING
    assert jobs.may_be_at_work(theirs)
    assert not jobs.may_be_at_work(theirs, now=time.time() + jobs.FRESH + 1)


def test_a_process_that_never_signed_in_is_lost_after_a_while(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    job = jobs.create(ledger, "train", run=run.id, argument={}, log=tmp_path / "log.txt")
    assert jobs.seen_state(job) is State.QUEUED
    assert jobs.seen_state(job, now=job.created + jobs.STARTING_GRACE + 1) is State.LOST
    elsewhere = replace(job, host="other", boot_id="theirs")
    assert jobs.seen_state(elsewhere, now=job.created + 1e6) is State.QUEUED


def test_a_second_process_is_refused_while_the_first_may_live(
    ledger: Ledger, run: Run, tmp_path: Path, job: Job
) -> None:
    with pytest.raises(Problem, match="already running") as caught:
        jobs.create(ledger, "train", run=run.id, argument={}, log=tmp_path / "log.txt")
    assert caught.value.code == "running"
    assert f"Process {os.getpid()} on {machine.here().host}" in caught.value.why
    assert len(jobs.of_run(ledger, run.id)) == 1
    with ledger.transaction() as connection:
        connection.execute("UPDATE job SET pid_started = pid_started - 1")
    assert runs.find(ledger, run.uid).state is State.LOST
    again = jobs.create(ledger, "train", run=run.id, argument={}, log=tmp_path / "log.txt")
    assert runs.find(ledger, run.uid).state is State.QUEUED
    with pytest.raises(Problem, match="being started"):
        jobs.create(ledger, "train", run=run.id, argument={}, log=tmp_path / "log.txt")
    assert again.uid == jobs.of_run(ledger, run.id)[-1].uid
    jobs.create(ledger, "evaluate", run=run.id, argument={}, log=tmp_path / "log.txt")
