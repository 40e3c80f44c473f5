"""What a Trainer printed, followed as the file grows: progress bars, the figures between them, and how it ended.

Trainer writes `{'loss': '6.19', ..., 'epoch': '0.1'}` without a step. tqdm takes its bar away to let a line through and draws
it again at once, so the step is that of the next bar - where just one such line stands between two bars. Where output was
buffered they come in heaps, and which belongs to which step cannot be known: those are counted, not guessed. A line that
names its step itself needs no bar.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.ledger.exchange import foreign, trainer
from engine.ledger.exchange.imported import Gathering, Points

# `  7%|▋         | 2/30 [00:00<00:06,  4.21it/s]`; bars with words before them count files, rows or weights.
BAR: Final = re.compile(r"^\s*\d+%\|[^|]*\|\s*(\d+)/(\d+) \[((?:\d+:)?\d+:\d\d)<")
STEER: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # cursor movements and colours
RAISED: Final = re.compile(r"^((?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\w*)(?::|$)")
TRACEBACK: Final = "Traceback (most recent call last):"
STEP_KEYS: Final = ("step", "global_step")
MOST: Final = 1 << 24  # bytes of one look: what is larger is read in several


@dataclass(frozen=True)
class Told:
    """What the output said since the last look.

    `step` of `steps` is the newest bar's, None before there was one. `finished`: Trainer has said how long it took; `raised`:
    the exception that ended it, as `ValueError: text`. `unplaced`: lines of figures so far whose step is not known.
    """

    points: Mapping[str, Points]
    step: int | None = None
    steps: int | None = None
    finished: bool = False
    raised: str = ""
    unplaced: int = 0


@dataclass
class _Line:
    """A line of figures that waits for the bar after it, and how far the clock of the bar before it stood."""

    values: Mapping[str, object]
    elapsed: float


class TextLog:
    """One file of output. What is half written waits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._names = foreign.Names()
        self._file: tuple[int, int] | None = None  # device and inode: another file under the name begins anew
        self._begin()

    def _begin(self) -> None:
        self._offset = 0
        self._rest = b""
        self._step: int | None = None
        self._steps: int | None = None
        self._elapsed = 0.0
        self._waiting: list[_Line] = []
        self._placed: list[tuple[int, _Line]] = []
        self._finished = False
        self._in_traceback = False
        self._raised = ""
        self._unplaced = 0

    def read(self) -> Told:
        """What was added since the last look; all again where the file was written anew.

        Raises:
            OSError: it cannot be read.
        """
        status = self.path.stat()
        if self._file != (status.st_dev, status.st_ino) or status.st_size < self._offset:
            self._begin()
            self._file = (status.st_dev, status.st_ino)
        with self.path.open("rb") as file:
            file.seek(self._offset)
            while added := file.read(MOST):
                self._offset += len(added)
                *whole, self._rest = re.split(rb"[\r\n]+", self._rest + added)
                for line in whole:
                    self._take(STEER.sub("", line.decode(errors="replace")).rstrip())
                self._peek()
        return Told(
            self._points(status.st_mtime), self._step, self._steps, self._finished, self._raised, self._unplaced
        )

    def _take(self, line: str) -> None:
        before, mark, _ = line.partition(TRACEBACK)
        if mark:  # it stands behind a bar, which ends no line
            self._take(before)
            self._in_traceback, self._raised = True, ""
        elif bar := BAR.match(line):
            self._bar(int(bar[1]), int(bar[2]), _seconds(bar[3]))
        elif line.lstrip().startswith("{"):
            self._figures(line.strip())
        elif self._in_traceback and RAISED.match(line):
            self._raised = line

    def _peek(self) -> None:
        """A bar that is drawn last has no end of line yet; it is known by its end all the same."""
        text = STEER.sub("", self._rest.decode(errors="replace"))
        if text.endswith("]") and BAR.match(text):
            self._take(text)
            self._rest = b""

    def _bar(self, step: int, steps: int, elapsed: float) -> None:
        """The first bar without words is the training's; others of another length are evaluations'."""
        if self._steps is None:
            self._steps = steps
        if steps != self._steps:
            return
        if self._step is not None and step < self._step:  # begun again in the same file
            self._finished, self._placed = False, []
        self._step, self._elapsed = step, elapsed
        if len(self._waiting) == 1:
            self._placed.append((step, self._waiting[0]))
        else:
            self._unplaced += len(self._waiting)
        self._waiting = []

    def _figures(self, line: str) -> None:
        values = _parsed(line)
        if values is None:
            return
        self._finished = self._finished or "train_runtime" in values
        self._raised, self._in_traceback = "", False  # an exception that ended nothing: what is drawn last may be a bar
        step = next((values[key] for key in STEP_KEYS if isinstance(values.get(key), int)), None)
        if isinstance(step, int):
            self._placed.append((step, _Line(values, self._elapsed)))
        else:
            self._waiting.append(_Line(values, self._elapsed))

    def _points(self, written: float) -> dict[str, Points]:
        """Bars say how long it has run, the file when it was last written: together, when each line was."""
        gathering = Gathering()
        for step, line in self._placed:
            gathering.add_all(step, written - (self._elapsed - line.elapsed), self._named(line.values))
        self._placed = []
        return gathering.take()

    def _named(self, values: Mapping[str, object]) -> Iterator[tuple[str, float]]:
        for key, value in values.items():
            if key not in (*STEP_KEYS, *trainer.NO_METRICS) and (number := _number(value)) is not None:
                yield self._names(trainer.prefixed(key)), number


def _number(value: object) -> float | None:
    """Trainer 5 prints numbers as text: `{'loss': '6.193'}`."""
    try:
        return float(value) if isinstance(value, str) else foreign.number(value)
    except ValueError:
        return None


def _seconds(clock: str) -> float:
    """Of `01:30` or `1:01:30`."""
    total = 0
    for part in clock.split(":"):
        total = 60 * total + int(part)
    return float(total)


def _parsed(line: str) -> dict[str, object] | None:
    """The figures of a line, as Python or as JSON; None where it is neither."""
    for parse in (ast.literal_eval, json.loads):
        try:
            found = parse(line)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, dict) and all(isinstance(key, str) for key in found):
            return found
    return None
