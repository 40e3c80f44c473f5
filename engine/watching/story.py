"""A foreign training in the ledger: a run like any other, with one job that stands for somebody else's process.

The run's folder is one of ours, empty, so that deleting the run never touches what the other program wrote; where it trains is kept
in the environment, by which a watch that is started again finds its run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engine import machine
from engine.ledger import Ledger, checkpoints, events, jobs, runs
from engine.ledger.exchange.adding import WATCHED
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from engine.places import private_folder
from engine.watching.folder import Lying, step_of
from engine.watching.processes import Process
from engine.watching.sources import Heard

NOBODY: Final = (0, 0)  # a pid that is no process's: a job of it is seen as lost


def find(ledger: Ledger, folder: Path, identity: Mapping[str, str]) -> Run | None:
    """The newest run that was watched in this folder of this machine, if it can be the training with this identity; None for a new one."""
    newest = _newest(ledger, folder)
    return None if newest is None or is_another(newest[1], identity) else newest[0]


def _newest(ledger: Ledger, folder: Path) -> tuple[Run, Mapping[str, str]] | None:
    """The newest run that was watched in this folder, and the identity of its training."""
    rows = ledger.rows(
        "SELECT r.uid, d.environment FROM run r JOIN run_document d ON d.run = r.id WHERE r.source = ? AND r.deleted IS NULL"
        " AND json_extract(d.environment, '$.watched.folder') = ? AND json_extract(d.environment, '$.watched.host') = ?"
        " ORDER BY r.id DESC LIMIT 1",
        (WATCHED, str(folder), machine.here().host),
    )
    if not rows:
        return None
    return runs.find(ledger, str(rows[0][0])), json.loads(rows[0][1])["watched"].get("identity", {})


def is_another(known: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether these are two trainings: the best tracker that knows both gives them two names."""
    for tracker in ("tensorboard", "wandb", "trainer"):
        if tracker in known and tracker in now:
            return known[tracker] != now[tracker]
    return False


class Story:
    """Writes one watched run."""

    def __init__(self, ledger: Ledger, run: Run, folder: Path) -> None:
        self.run = run
        self._ledger = ledger
        self._folder = folder
        self._job = jobs.newest_training(ledger, run.id)
        self._told: dict[str, object] = {}  # by topic: what is as it was is not written again

    @classmethod
    def begin(cls, ledger: Ledger, folder: Path, *, name: str, runs_folder: Path, created: float | None) -> Story:
        """A run for what is trained in `folder`. One that was watched there before and not seen to end is lost: who lives there trains this one.

        Raises:
            Problem: the ledger or the runs folder cannot be written.
        """
        if before := _newest(ledger, folder):
            cls(ledger, before[0], folder)._lose()
        run = runs.create(ledger, name=name, runs_folder=runs_folder, profile="", settings={}, source=WATCHED)
        private_folder(run.folder)
        where = {"watched": {"folder": str(folder), "host": machine.here().host, "identity": {}}}
        runs.record(ledger, run, environment=where)
        if created is not None:
            with ledger.transaction() as connection:
                connection.execute("UPDATE run SET created = ? WHERE id = ?", (created, run.id))
        events.add(ledger, "watched", f"Watched in {folder}", run=run.id)
        return cls(ledger, runs.find(ledger, run.uid), folder)

    def attend(self, process: Process | None, log: Path, host: str) -> None:
        """Whose state the run's is: that of `process`, of one on another machine (`host`; empty where nobody knows which), or of nobody.

        The same process again, or a watcher in place of the last one, is the same job; another process is another.
        """
        now = {"pid": process.pid if process else None, "started": process.started if process else None, "host": host}
        if self._told.get("process") == now:
            return
        job = self._job
        if job is not None and process is not None and job.pid not in (None, process.pid) and job.state in LIVE:
            if jobs.may_be_at_work(job):
                jobs.set_state(self._ledger, job, State.STOPPED, message="Another process goes on with it.")
            job = None
        over = job is not None and job.state not in LIVE
        if over and (process is None or (job is not None and job.pid_started == process.started)):
            return
        if job is None or over:
            argument: dict[str, object] = {"watched": str(self._folder)}
            job = jobs.create(self._ledger, "train", run=self.run.id, argument=argument, log=log)
        self._sign(job, process, host)
        self._job = jobs.get(self._ledger, job.uid)
        self._told["process"] = now

    def _lose(self) -> None:
        """Nobody on this machine is at work on it any more; of another machine nobody here knows that."""
        here = machine.here().host
        if self._job is not None and self._job.host == here and self._job.state in LIVE:
            self._sign(self._job, None, here)

    def _sign(self, job: jobs.Job, process: Process | None, host: str) -> None:
        """Name the process in the job's row, so that everybody sees whether it lives."""
        here = machine.here()
        local = host == here.host
        where = (here.host, here.boot_id, here.pid_namespace) if local else (host, "", "")
        pid = (process.pid, process.started) if process is not None and local else NOBODY
        with self._ledger.transaction(durable=True) as connection:
            connection.execute(
                "UPDATE job SET started = coalesce(started, ?), heartbeat = coalesce(heartbeat, ?), host = ?, boot_id = ?, pid_namespace = ?,"
                " pid = ?, pid_started = ? WHERE id = ?",
                (time.time(), time.time(), *where, *pid, job.id),
            )

    def know(self, heard: Heard, identity: Mapping[str, str]) -> None:
        """Keep settings, environment and what the training goes by, when they have changed."""
        now = (heard.settings, heard.environment, heard.uids, dict(identity))
        if self._told.get("known") == now:
            return
        where = {"folder": str(self._folder), "host": machine.here().host}
        watched = {**where, "identity": dict(identity), "uids": sorted(heard.uids)}
        runs.record(self._ledger, self.run, environment={**heard.environment, "watched": watched})
        if heard.settings:
            text = json.dumps(dict(sorted(heard.settings.items())))
            with self._ledger.transaction() as connection:
                connection.execute("UPDATE run_document SET settings = ? WHERE run = ?", (text, self.run.id))
        self._told["known"] = now

    def measured(self, mib: float, gpu: str) -> None:
        """The process's GPU memory in MiB, and what it computes on."""
        runs.set_measured_memory(self._ledger, self.run, mib)
        with self._ledger.transaction() as connection:
            connection.execute("UPDATE run SET gpu = ? WHERE id = ? AND gpu <> ?", (gpu, self.run.id, gpu))

    def progress(self, *, step: int, steps: int | None, ends: float | None, gpu: str, newest: float) -> None:
        """Where it is; `newest` is when anything was last heard of it."""
        now = (step, steps, gpu, newest)
        if self._told.get("progress") == now:
            return
        with self._ledger.transaction() as connection:
            connection.execute(
                "UPDATE run SET step = ?, steps = coalesce(?, steps), ends = ?, gpu = CASE WHEN ? <> '' THEN ? ELSE gpu END WHERE id = ?",
                (step, steps, ends, gpu, gpu, self.run.id),
            )
            if self._job is not None:
                connection.execute(
                    "UPDATE job SET heartbeat = ?, done = ?, total = ?, doing = 'training' WHERE id = ?",
                    (newest, step, steps, self._job.id),
                )
        self._told["progress"] = now

    def state(self, state: State, *, cause: str = "", message: str = "") -> None:
        """Write a state, when it is another than the last."""
        if self._job is None or self._told.get("state") == (state, cause):
            return
        if (self._job.state, self._job.cause) != (state, cause):
            jobs.set_state(self._ledger, self._job, state, cause=cause, message=message)
            self._job = jobs.get(self._ledger, self._job.uid)
            if state not in LIVE:
                level: events.Level = "error" if state is State.FAILED else "info"
                events.add(self._ledger, str(state), message or f"It {state}", run=self.run.id, level=level)
        self._told["state"] = (state, cause)

    def keep_checkpoints(self, lying: Lying) -> None:
        """The checkpoints that lie there now; their paths are absolute."""
        there = {step_of(each): each for each in lying.checkpoints if step_of(each)}
        if self._told.get("checkpoints") == set(there):
            return
        known = {each.step for each in checkpoints.of_run(self._ledger, self.run.id)}
        for step in known - set(there):
            checkpoints.remove(self._ledger, self.run.id, step=step)
        for step in sorted(set(there) - known):
            size = sum(file.stat().st_size for file in there[step].rglob("*") if file.is_file())
            path = str(there[step].resolve())
            checkpoints.add(self._ledger, self.run.id, step=step, path=path, size=size, validation=None, best=False)
            events.add(self._ledger, "checkpoint", f"Checkpoint at step {step}", run=self.run.id, step=step)
        self._told["checkpoints"] = set(there)

    def seen(self) -> Run:
        """The run as it stands, with what this machine sees of its process."""
        return runs.find(self._ledger, self.run.uid)
