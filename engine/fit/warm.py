"""The simulator's child: a process that has imported torch and waits for questions. It never sees the terminal, the GPUs or the network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine import places
from engine.errors import Problem
from engine.fit.lines import ADVICE, ASKED, TOLD, Asked, Told
from engine.fit.question import Question
from engine.process import PARENT

COMMAND: Final = (sys.executable, "-P", "-m", "engine.fit.simulation")
ENVIRONMENT: Final = {
    "PYTHONSAFEPATH": "1",
    "OMP_NUM_THREADS": "1",  # nothing is computed; and forks must not begin with the threads of others
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
SECRETS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
PATIENCE: Final = 5.0  # seconds for a killed process to be gone
BLOCK: Final = 1 << 16


class Warm:
    """A child at work. It ends with the thread that starts it (the kernel sees to that), so one thread has to do it all.

    `ready` once it has imported what it needs; `asked` is the number of the question that it is at, None when it rests.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """Start it; what it says besides answers goes to a file in the cache.

        Raises:
            Problem: no process can be started, or the cache not be written.
        """
        self.ready = False
        self.asked: int | None = None
        self._unread = b""
        self._number = 0
        self.log = log_path()
        try:
            places.private_folder(self.log.parent)
            with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)) as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=_environment(),
                    start_new_session=True,
                )
        except OSError as error:
            raise Problem("The simulation cannot be started", str(error), ADVICE, code="simulation") from error

    def fileno(self) -> int:
        """For select: readable when something was said."""
        assert self._process.stdout
        return self._process.stdout.fileno()

    def ask(self, question: Question) -> None:
        """Begin with a question and leave the one before."""
        self._number += 1
        self.asked = self._number
        self._write(Asked(self._number, question))

    def leave(self) -> None:
        """Begin with nothing and leave the question before."""
        self.asked = None
        self._write(Asked(0, None))

    def heard(self) -> Told | None:
        """The answer to the question asked, if what came in completes it.

        Raises:
            Problem: the child is gone ("simulation").
        """
        block = os.read(self.fileno(), BLOCK)
        if not block:
            raise Problem("The simulation ended", self._last_words(), f"{self.log} says more.", code="simulation")
        *lines, self._unread = (self._unread + block).split(b"\n")
        for told in map(TOLD.validate_json, lines):
            self.ready = True
            if told.number == self.asked:  # others were left
                self.asked = None
                return told
        return None

    def end(self) -> None:
        """Kill it; a fork of it that is at work goes with it."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(BrokenPipeError):  # a question that it did not live to read
                    stream.close()
        self._process.wait(PATIENCE)

    def _write(self, asked: Asked) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(ASKED.dump_json(asked) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone, as `heard` will say

    def _last_words(self) -> str:
        """The signal that ended it, or the last line of the log: the exception's."""
        status = self._process.wait(PATIENCE)
        if status < 0:
            return f"It was ended by {signal.Signals(-status).name}."
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return said[:300] or f"Its status was {status}."


def log_path() -> Path:
    """What the last child said besides its answers."""
    return places.cache() / "simulation.log"


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in SECRETS}
    return inherited | ENVIRONMENT | {PARENT: str(os.getpid())}
