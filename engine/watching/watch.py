"""Following one folder: each look brings the ledger up to date with what is trained there, however often it is begun again."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

import numpy as np

from engine import machine
from engine.errors import Problem
from engine.ledger import Ledger, jobs, metrics, runs
from engine.ledger.exchange.adding import WATCHED
from engine.ledger.exchange.foreign import short_gpu
from engine.ledger.exchange.imported import Points
from engine.ledger.runs import Run
from engine.ledger.states import LIVE, State
from engine.watching import processes, story
from engine.watching.combining import Combining
from engine.watching.folder import host_of, is_tracked
from engine.watching.processes import Process
from engine.watching.sources import Heard, Sources
from engine.watching.story import Story
from engine.watching.verdict import FRESH, Verdict, verdict

MEMORY: Final = "memory/process_mib"
SEARCH_EVERY: Final = 5.0  # seconds between looks for the process
PACE: Final = 100  # points from which the end is foretold


class Watch:
    """A folder under watch. Only one at a time: the folder itself is locked, until `close` or the death of this process."""

    def __init__(
        self,
        ledger: Ledger,
        folder: Path,
        *,
        runs_folder: Path,
        pid: int | None = None,
        name: str = "",
        output: Path | None = None,
    ) -> None:
        """Watch `folder`; `pid` is the process that trains there, found by itself where it can be, `output` a file it prints to.

        Raises:
            Problem: there is no such folder, process or file, or somebody watches the folder already.
        """
        self.folder = folder.expanduser().resolve()
        self.run: Run | None = None
        self.process: Process | None = None
        self.several: tuple[Process, ...] = ()  # programs of which one may be it
        self.heard = Heard()
        self._ledger = ledger
        self._runs_folder = runs_folder
        self._name = name or self.folder.name
        self._output = output
        self._elsewhere: set[Path] = set()
        self._searched = -SEARCH_EVERY
        self._stands_in = False  # for a process that is not known: the run lives while this watch does
        if output is not None and not output.is_file():
            raise Problem(f"There is no file {output}", "--log names what the program prints to.", code="watch")
        if pid is not None:
            found = processes.process(pid)
            if found is None:
                why = "It has ended, or it is in another container."
                raise Problem(f"There is no process {pid}", why, "See what runs: ps -ef", code="watch")
            self._know(found)
        self._lock = _locked(self.folder)
        self._begin()

    def _begin(self) -> None:
        """Read everything from its beginning."""
        self._sources = Sources(self.folder, self._output)
        self._sources.elsewhere = self._elsewhere
        self._story: Story | None = None
        self._combining: Combining | None = None
        self._identity: dict[str, str] = {}
        self._step = 0

    def look(self) -> Run | None:
        """Bring the ledger up to date; the run as it is seen then, or None while there is nothing to follow yet.

        Raises:
            Problem: the ledger cannot be written or a file cannot be read; the next look does what this one could not.
        """
        self._search()
        try:
            return self._looked()
        except BaseException as error:
            self._begin()  # what was read is not written: the next look reads all again, and writes what the ledger has not
            if FileNotFoundError in (type(error), type(error.__cause__)):
                return self.run  # Trainer has removed an old checkpoint just now
            if isinstance(error, OSError):
                raise Problem(f"{error.filename} cannot be read", f"{error.strerror}.", code="watch") from error
            raise

    def _looked(self) -> Run | None:
        heard = self._sources.read()
        if self._story is not None and story.is_another(self._identity, heard.identity):
            if self._combining is not None:
                self._combining.seal()
            self._begin()
            heard = self._sources.read()
        self.heard = heard
        if (heard.lying.nothing and self.process is None) or self._cannot_tell(heard):
            return self.run
        told = self._story or self._open(heard)
        self._identity |= heard.identity
        self._write(told, heard)
        self.run = told.seen()
        return self.run

    def _cannot_tell(self, heard: Heard) -> bool:
        """Whether all that lies there may be an older run's: a program that has only just begun goes on with it, or does not."""
        if self.process is None:
            return heard.begun and time.time() - heard.newest < FRESH
        return self.process.alive and (heard.begun or 0 < heard.tracked < self.process.since)

    def close(self) -> None:
        """Watch no longer. What is still at work goes on, and is shown as it was last seen."""
        try:
            if self._combining is not None:
                self._combining.seal()
            if self._story is not None and self._stands_in:
                self._story.attend(None, self.folder, "")
        finally:
            os.close(self._lock)

    def _open(self, heard: Heard) -> Story:
        """The run that this training has in the ledger already, or a new one.

        Raises:
            Problem: the program logs itself, with `engine.callback`.
        """
        if self.process is not None:
            _refuse_what_logs_itself(self._ledger, self.process)
        known = story.find(self._ledger, self.folder, heard.identity)
        self._story = (
            Story(self._ledger, known, self.folder)
            if known
            else Story.begin(
                self._ledger, self.folder, name=self._name, runs_folder=self._runs_folder, created=heard.created
            )
        )
        self._combining = Combining(self._ledger, self._story.run.id)
        return self._story

    def _search(self) -> None:
        """Find who trains here, while nobody is known; then the files that its trackers have open in other folders."""
        if time.monotonic() - self._searched < SEARCH_EVERY:
            return
        self._searched = time.monotonic()
        if self.process is None:
            found = processes.behind(self.folder)
            self.several = found if len(found) > 1 else ()
            if len(found) == 1:
                self._know(found[0])
                self._sources.text = self._output
        if self.process is not None and self.process.alive:
            opened = processes.written(self.process.pid)
            self._elsewhere |= {file for file in opened if is_tracked(file) and not file.is_relative_to(self.folder)}
            self._sources.elsewhere = self._elsewhere

    def _know(self, process: Process) -> None:
        """This is it; what it prints to is looked up while it lives."""
        self.process = process
        self._output = self._output or processes.printed_to(process.pid)

    def _write(self, told: Story, heard: Heard) -> None:
        assert self._combining is not None
        for source, points in heard.points:
            self._combining.add(source, points)
        step = max(heard.at, heard.step)
        steps = heard.steps or _whole(heard.settings.get("training.max_steps")) or self._by_epochs(heard, step)
        alive = self.process.alive if self.process is not None else None
        now = time.time()
        found = verdict(heard, step=step, steps=steps, alive=alive, now=now)
        if alive and self.process is not None and step > self._step:
            self._measure(told, self.process, step, now)
        self._step = step
        told.attend(*self._whose(heard, found))
        told.know(heard, self._identity)
        told.keep_checkpoints(heard.lying)
        ended = found.state not in LIVE and found.state is not State.LOST  # a lost one everybody sees by itself
        if not ended:
            told.state(State.RUNNING)
        ends = self._ends(step, steps) if found.state in LIVE else None
        told.progress(step=step, steps=steps, ends=ends, gpu=heard.gpu, newest=now if alive else heard.newest)
        if found.state not in LIVE:
            self._combining.seal()
        if ended:
            told.state(found.state, cause=found.cause, message=found.message)

    def _whose(self, heard: Heard, found: Verdict) -> tuple[Process | None, Path, str]:
        """Whose life the run's state hangs on, the log, and the machine: this watch stands in for a process that is not known."""
        hosts = {host for each in heard.lying.events if (host := host_of(each))}
        here = machine.here().host
        host = next(iter(hosts)) if hosts and here not in hosts else here
        process = self.process
        self._stands_in = process is None and found.state in LIVE and host == here
        if self._stands_in:
            process = processes.process(os.getpid())
        return process, self._output or next(iter(heard.lying.texts), self.folder), host

    def _measure(self, told: Story, process: Process, step: int, now: float) -> None:
        """The process's GPU memory, at the step that it has reached."""
        held = processes.gpu_mib(process.pid)
        if not held:
            return
        assert self._combining is not None
        most = max(held.values())
        point = Points(np.array([step]), np.array([round(now, 3)]), np.array([most]))
        self._combining.add("text", {MEMORY: point})
        told.measured(most, short_gpu(next(iter(held)).partition(" ")[2], len(held)))

    def _ends(self, step: int, steps: int | None) -> float | None:
        """When it will end if it goes on as in its last points, in seconds since the epoch."""
        assert self._story is not None
        if steps is None or step >= steps:
            return None
        curve = metrics.curve(self._ledger, self._story.run.id, "train/loss")
        times, at = curve.times[-PACE:], curve.steps[-PACE:]
        if len(at) < 2 or times[-1] <= times[0]:
            return None
        return float(times[-1] + (steps - at[-1]) * (times[-1] - times[0]) / (at[-1] - at[0]))

    def _by_epochs(self, heard: Heard, step: int) -> int | None:
        """The steps of all epochs, where only those are told: Trainer logs which part of them is done."""
        assert self._story is not None
        epochs = heard.settings.get("training.epochs")
        curve = metrics.curve(self._ledger, self._story.run.id, "train/epoch")
        if not isinstance(epochs, int | float) or not len(curve.steps) or curve.values[-1] <= 0:
            return None
        return max(step, round(float(curve.steps[-1] / curve.values[-1] * epochs)))


def _refuse_what_logs_itself(ledger: Ledger, process: Process) -> None:
    for job in jobs.live(ledger):
        run = runs.by_id(ledger, job.run) if job.run is not None else None
        if (job.pid, job.pid_started) == (process.pid, process.started) and run is not None and run.source != WATCHED:
            raise Problem(
                f"Process {process.pid} logs itself as {run.name}",
                "Its figures are in the ledger already.",
                f"Follow it: workbench runs follow {run.name}",
                code="running",
            )


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None


def _locked(folder: Path) -> int:
    """The folder held against a second watch, for as long as the returned descriptor is open.

    Raises:
        Problem: there is no such folder, or it is watched.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        why = f"{error.strerror}."
        raise Problem(
            f"{folder} cannot be watched", why, "Name the folder that is trained into.", code="watch"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise Problem(
            f"{folder} is watched already",
            "Another process of Workbench follows it.",
            "See the run on Runs, or end that watch first.",
            code="running",
        ) from error
    except OSError:  # a file system without locks: two watches write the same, which does no harm
        pass
    return handle
