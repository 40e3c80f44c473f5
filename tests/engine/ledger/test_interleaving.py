"""Whatever is logged, replayed, sealed, killed and reopened, in any order: what was acknowledged is read, exactly.

The writer lives in a forked process, so that killing it is killing it: SIGKILL at whatever it is doing. The test reads beside it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import struct
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from engine.ledger import Ledger, metrics, packing, runs, sealing, summaries, writer
from engine.ledger.metrics import Curve, Writer

NAMES: Final = ("train/loss", "validation/loss", "time/save")
VALUES: Final = st.one_of(st.floats(width=64), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0]))
LOGGED: Final = st.one_of(  # few key sets, which share keys
    st.fixed_dictionaries({NAMES[0]: VALUES}),
    st.fixed_dictionaries({NAMES[0]: VALUES, NAMES[1]: VALUES}),
    st.fixed_dictionaries({NAMES[1]: VALUES, NAMES[2]: VALUES}),
)
STEPS: Final = st.integers(-2, 6)  # few, so that many are replayed
State = dict[str, dict[int, float]]  # the newest value of each key at each step


def bits(state: Mapping[str, Mapping[int, float]]) -> dict[str, dict[int, bytes]]:
    """Equal if and only if every bit is, of NaN and of zeros too."""
    return {name: {step: struct.pack("<d", value) for step, value in points.items()} for name, points in state.items()}


def after(state: State, rows: list[tuple[int, dict[str, float]]]) -> State:
    """The plain definition of what logging does."""
    new = {name: dict(points) for name, points in state.items()}
    for step, values in rows:
        for name, value in values.items():
            new.setdefault(name, {})[step] = value
    return new


class Process:
    """A process with a ledger and a writer of its own, told line by line what to do."""

    def __init__(self, path: Path, run: int) -> None:
        commands, self._say = os.pipe()
        hear, answers = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                _serve(path, run, commands, answers)
            finally:
                os._exit(1)
        os.close(commands)
        os.close(answers)
        self._hear = os.fdopen(hear)

    def do(self, *command: object) -> None:
        os.write(self._say, f"{json.dumps(command)}\n".encode())

    def ask(self, *command: object) -> int:
        self.do(*command)
        return int(self._hear.readline())

    def end(self, *, kill: bool) -> None:
        if kill:
            os.kill(self.pid, signal.SIGKILL)
        else:
            self.do("close")
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        os.close(self._say)
        self._hear.close()
        assert status == (-signal.SIGKILL if kill else 0)


def _serve(path: Path, run: int, commands: int, answers: int) -> None:
    """The process: `log` and `close` as a training would, `acknowledged` and `flush` answer with a sequence number."""
    sealing.SEGMENT = writer.SEGMENT = 4  # type: ignore[misc]
    writer.GATHER = 0.002  # type: ignore[misc]
    ledger = Ledger.open(path)
    log = Writer(ledger, run)
    for line in os.fdopen(commands):
        match json.loads(line):
            case ["log", step, values]:
                log.log(step, {name: struct.unpack("<d", bytes.fromhex(value))[0] for name, value in values.items()})
            case ["clock", seconds]:
                stood = time.time
                time.time = lambda stood=stood, seconds=seconds: stood() + seconds
            case ["acknowledged"]:
                os.write(answers, f"{log.acknowledged}\n".encode())
            case ["flush"]:
                os.write(answers, f"{log.acknowledged if log.flush() else -1}\n".encode())
            case ["close"]:
                log.close()
                ledger.close()
                os._exit(0)


class Interleaving(RuleBasedStateMachine):
    """A run as it should be, beside what the ledger says of it."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.ledger = Ledger.open(self.folder / "ledger.db")
        self.run_id = runs.create(self.ledger, name="it", runs_folder=self.folder, profile="", settings={}).id
        self.certain: State = {}  # before the process that writes now
        self.rows: list[tuple[int, dict[str, float]]] = []  # that it was told to log
        self.grown: dict[str, Curve] = {name: metrics.curve(self.ledger, self.run_id, name) for name in NAMES}
        self.process = Process(self.ledger.path, self.run_id)

    @rule(step=STEPS, values=LOGGED)
    def log(self, step: int, values: dict[str, float]) -> None:
        self.process.do("log", step, {name: struct.pack("<d", value).hex() for name, value in values.items()})
        self.rows.append((step, values))

    @rule(first=STEPS, count=st.integers(2, 12), values=LOGGED)
    def log_on(self, first: int, count: int, values: dict[str, float]) -> None:
        for step in range(first, first + count):
            self.log(step, values)

    @rule(seconds=st.sampled_from([-1e6, -5.0, 3600.0]))
    def clock_steps(self, seconds: float) -> None:
        self.process.do("clock", seconds)

    @rule()
    def flush(self) -> None:
        assert self.process.ask("flush") == len(self.rows)
        self.check(after(self.certain, self.rows))

    @rule()
    def another_seals(self) -> None:
        before = self.read()
        with self.ledger.transaction() as connection:
            sealing.seal(connection, self.run_id)
        known = self.possible(0)
        assert bits(before) in known
        assert bits(self.read()) in known

    @rule()
    def look(self) -> None:
        """As a screen does: what was added since."""
        for name in NAMES:
            known = self.grown[name]
            self.grown[name] = known.joined(metrics.curve(self.ledger, self.run_id, name, after=known.seq))

    @rule(wait=st.floats(0, 0.004))
    def kill(self, wait: float) -> None:
        acknowledged = self.process.ask("acknowledged")
        time.sleep(wait)
        self.process.end(kill=True)
        found = self.read()
        assert bits(found) in self.possible(acknowledged)
        self.start_again(found)

    @rule()
    def close_and_reopen(self) -> None:
        self.process.end(kill=False)
        self.ledger.close()
        self.ledger = Ledger.open(self.ledger.path)
        now = after(self.certain, self.rows)
        self.check(now)
        assert self.ledger.value("SELECT count(*) FROM tail") == 0, "closing seals"
        self.start_again(now)

    def teardown(self) -> None:
        if hasattr(self, "process"):
            if self.process.pid:
                self.process.end(kill=True)
            assert self.ledger.value("PRAGMA integrity_check") == "ok"
            self.ledger.close()
            shutil.rmtree(self.folder)

    def start_again(self, state: State) -> None:
        self.check(state)
        self.certain, self.rows = state, []
        self.process = Process(self.ledger.path, self.run_id)

    def possible(self, acknowledged: int) -> list[dict[str, dict[int, bytes]]]:
        """What may be there: all acknowledged rows and, since batches are whole and in order, some first ones of the others."""
        return [bits(after(self.certain, self.rows[:count])) for count in range(acknowledged, len(self.rows) + 1)]

    def read(self) -> State:
        curves = metrics.curves(self.ledger, self.run_id, NAMES)
        return {
            name: dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))
            for name, curve in curves.items()
            if len(curve.steps)
        }

    def check(self, state: State) -> None:
        """Curves, increments and summaries are those of `state`; segments do not overlap."""
        assert bits(self.read()) == bits(state)
        assert metrics.keys(self.ledger, self.run_id) == sorted(state)
        self.look()
        measured = summaries.of_all(self.ledger).get(self.run_id, {})
        for name, points in state.items():
            steps = sorted(points)
            values = [points[step] for step in steps]
            np.testing.assert_array_equal(self.grown[name].steps, steps)
            np.testing.assert_array_equal(self.grown[name].values, values)
            check_summary(measured[name], steps, values)
            finite = [(value, step) for value, step in zip(values, steps, strict=True) if math.isfinite(value)]
            high = max(finite, default=(None, None), key=lambda pair: pair[0])  # the first of equal ones
            counted = "SELECT n, gaps, max, max_step FROM series s JOIN key k ON k.id = s.key WHERE k.name = ?"
            assert self.ledger.rows(counted, (name,)) == [(len(steps), len(steps) - len(finite), *high)]
        overlaps = (
            "SELECT count(*) FROM segment a JOIN segment b ON a.run = b.run AND a.keyset = b.keyset AND a.id < b.id"
            " WHERE a.first_step <= b.last_step AND b.first_step <= a.last_step"
        )
        assert self.ledger.value(overlaps) == 0


def check_summary(summary: summaries.Summary, steps: list[int], values: list[float]) -> None:
    """The plain definitions: last by step, lowest finite value at its first step, the average by its recurrence."""
    finite = [(value, step) for value, step in zip(values, steps, strict=True) if math.isfinite(value)]
    last = values[-1] if math.isfinite(values[-1]) else None
    low = min(finite, default=(None, None), key=lambda pair: pair[0])
    assert (summary.last, summary.last_step, summary.best, summary.best_step) == (last, steps[-1], *low)
    weights = [packing.WEIGHT ** (len(finite) - number) for number in range(1, len(finite) + 1)]
    if finite:
        total = math.fsum(
            weight / math.fsum(weights) * value for weight, (value, _) in zip(weights, finite, strict=True)
        )
        scale = max(abs(value) for value, _ in finite)
        tiny = 1e-300  # so near to zero each way of adding rounds by itself
        assert summary.smoothed == pytest.approx(total, rel=1e-9, abs=max(1e-9 * scale, tiny))
    else:
        assert summary.smoothed is None


TestInterleaving = Interleaving.TestCase
TestInterleaving.settings = settings(
    max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
