"""The metrics thread: real kills, real full disks, odd numbers; and never an exception into the training loop."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from engine.ledger import Ledger, events, lock, metrics, summaries, writer
from engine.ledger.lock import WriteLock
from engine.ledger.metrics import Writer
from engine.ledger.packing import Packer, Row
from engine.ledger.runs import Run

Script = Callable[..., str]

LOG = """
import sys
from pathlib import Path
from engine.ledger import Ledger, metrics
ledger = Ledger.open(Path(sys.argv[1]))
log = metrics.Writer(ledger, int(sys.argv[2]))
for step in range(int(sys.argv[3]), 10_000_000):
    log.log(step, {"train/loss": step / 7, "train/rate": float("nan")})
    if step % 100 == 0:
        print(int(sys.argv[3]) + log.acknowledged - 1, flush=True)
"""


def trouble(log: Writer) -> str:
    """What is wrong, as soon as anything is."""
    for _ in range(3000):  # looks are counted, not the time: a machine may stand still
        if log.trouble:
            return log.trouble
        time.sleep(0.01)
    raise AssertionError("nothing went wrong")


def test_five_kills_lose_nothing_that_was_acknowledged(ledger: Ledger, run: Run) -> None:
    first = 0
    for lines in (1, 3, 10, 30, 90):
        command = [sys.executable, "-c", LOG, str(ledger.path), str(run.id), str(first)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout
        acknowledged = -1
        for _ in range(lines):
            acknowledged = int(process.stdout.readline())
        process.kill()
        for line in process.stdout.read().splitlines():
            acknowledged = int(line)
        assert process.wait() == -signal.SIGKILL

        curve = metrics.curve(ledger, run.id, "train/loss")
        assert ledger.value("PRAGMA integrity_check") == "ok"
        assert curve.steps.tolist() == list(range(len(curve.steps))), "whole, without holes"
        assert len(curve.steps) > acknowledged
        assert curve.values.tolist() == [step / 7 for step in range(len(curve.steps))]
        summary = summaries.of_all(ledger)[run.id]["train/loss"] if len(curve.steps) else None
        assert summary is None or (summary.last_step, summary.best) == (len(curve.steps) - 1, 0.0)
        first = max(0, len(curve.steps) - 20)  # resumed from a checkpoint before the kill: 20 steps are replayed
    assert first > 0


def test_odd_numbers_are_kept(ledger: Ledger, run: Run) -> None:
    odd = [1.5, math.nan, -math.inf, math.inf, -0.0, 5e-324, 1.7e308]
    with Writer(ledger, run.id) as log:
        for step, value in enumerate(odd):
            log.log(step, {"train/loss": value, "only/here": value} if step == 3 else {"train/loss": value})
    curve = metrics.curve(ledger, run.id, "train/loss")
    assert [repr(value) for value in curve.values.tolist()] == [repr(value) for value in odd]
    summary = summaries.of_all(ledger)[run.id]["train/loss"]
    assert (summary.last, summary.last_step, summary.best, summary.best_step) == (1.7e308, 6, -0.0, 4)
    assert summaries.of_all(ledger)[run.id]["only/here"] == summaries.Summary(None, 3, None, None)
    assert metrics.keys(ledger, run.id) == ["only/here", "train/loss"]


def test_acknowledged_means_that_another_process_can_read_it(ledger: Ledger, run: Run) -> None:
    with Writer(ledger, run.id) as log, Ledger.open(ledger.path, read_only=True) as other:
        for step in range(20):
            sequence = log.log(step, {"train/loss": 1.0})
            assert log.flush()
            assert log.acknowledged == sequence
            assert metrics.curve(other, run.id, "train/loss").steps.tolist() == list(range(step + 1))


def test_many_threads_log(ledger: Ledger, run: Run) -> None:
    with Writer(ledger, run.id) as log:

        def work(name: str) -> None:
            for step in range(500):
                log.log(step, {name: float(step)})

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in "abcd":
        assert metrics.curve(ledger, run.id, name).values.tolist() == [float(step) for step in range(500)]


def test_a_loop_faster_than_the_disk_waits_and_loses_nothing(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_BOUND", 8)
    with Writer(ledger, run.id) as log:
        for step in range(1000):
            log.log(step, {"train/loss": 1.0})
    assert log.dropped == 0
    assert len(metrics.curve(ledger, run.id, "train/loss").steps) == 1000


def test_rows_that_gather_are_committed_together_and_at_once_when_somebody_waits(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GATHER", 60.0)
    commits = []
    write = Packer.write

    def counted(self: Packer, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        commits.append(len(rows))
        write(self, connection, rows)

    monkeypatch.setattr(Packer, "write", counted)
    with Writer(ledger, run.id) as log:
        for step in range(3):
            log.log(step, {"train/loss": 1.0})
            time.sleep(0.05)  # in which a thread that waits for nothing would commit
        assert log.flush()
    assert commits == [3]


def test_a_ledger_that_is_held_delays_the_loop_once_then_drops_the_oldest_and_says_so(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "QUEUE_BOUND", 10)
    monkeypatch.setattr(writer, "PATIENCE", 0.2)
    log = Writer(ledger, run.id)
    log.log(0, {"train/loss": 1.0})
    assert log.flush()
    waits: list[object] = []
    wait_for = log._changed.wait_for
    monkeypatch.setattr(log._changed, "wait_for", lambda *how: waits.append(how) or wait_for(*how))
    with WriteLock(ledger.path.with_name("ledger.db.lock")):
        for step in range(1, 100):
            log.log(step, {"train/loss": 1.0})
        assert len(waits) <= 2, "until the thread has taken a batch, then for it: no wait for each row"
        assert log.trouble
        assert log.dropped
        assert not log.flush(timeout=0.01)
    log.close()
    assert log.trouble == ""
    steps = metrics.curve(ledger, run.id, "train/loss").steps.tolist()
    assert len(steps) == 100 - log.dropped
    assert steps[-10:] == list(range(90, 100)), "the newest are kept"
    told = [event for event in events.of_run(ledger, run.id) if event.kind == "gap"]
    assert sum(int(str(event.detail["rows"])) for event in told) == log.dropped
    missing = sorted(set(range(100)) - set(steps))
    assert (told[0].detail["first_step"], told[-1].detail["last_step"]) == (missing[0], missing[-1])


def test_a_full_disk_never_reaches_the_loop_and_is_made_good_when_space_is_freed(disk: Script) -> None:
    said = disk(
        """
import time
from engine.ledger import Ledger, events, lock, metrics, runs, writer
writer.QUEUE_BOUND, writer.RETRY = 500, 0.05
ledger = Ledger.open(disk / "ledger.db")
run = runs.create(ledger, name="speech", runs_folder=disk, profile="", settings={})
log = metrics.Writer(ledger, run.id)
values = {f"key/{number}": float(number) for number in range(50)}
for step in range(100):
    log.log(step, values)
assert log.flush()
acknowledged = log.acknowledged
(disk / "fill").write_bytes(bytes(max(0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 100_000)))
step = 100
while not log.dropped:
    log.log(step, values)
    step += 1
    assert step < 100_000
print(log.trouble)
assert log.acknowledged >= acknowledged
stood = metrics.curve(ledger, run.id, "key/7").steps.tolist()
assert stood == list(range(len(stood))) and len(stood) >= acknowledged, "all that was acknowledged is readable"
try:
    events.add(ledger, "test", "x" * 200_000, run=run.id)
except Exception as error:
    print(type(error).__name__, error.code)
(disk / "fill").unlink()
for _ in range(100):
    log.log(step, values)
    step += 1
assert log.flush(20)
assert log.trouble == ""
log.close()
steps = metrics.curve(ledger, run.id, "key/7").steps.tolist()
assert len(steps) == step - log.dropped and steps[-500:] == list(range(step - 500, step))
told = [event for event in events.of_run(ledger, run.id) if event.kind == "gap"]
assert sum(event.detail["rows"] for event in told) == log.dropped
assert ledger.value("PRAGMA integrity_check") == "ok"
ledger.close()
print(told[0].level, told[0].text.split(":")[1])
"""
    )
    trouble, refused, told = said.splitlines()
    assert "cannot be written: the disk is full" in trouble
    assert refused == "Problem disk"
    assert told.startswith("warning ")


def test_a_commit_that_fails_after_making_new_keys_is_made_good(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RETRY", 0.05)

    def may_hold(pages: int) -> None:
        with ledger.transaction() as connection:
            connection.execute(f"PRAGMA max_page_count = {pages}")

    may_hold(int(str(ledger.value("PRAGMA page_count"))) + 4)
    with Writer(ledger, run.id) as log:
        many = {f"layer/{number}/norm": float(number) for number in range(2000)}
        log.log(0, many)
        assert "full" in trouble(log)
        may_hold(1_000_000)
        assert log.flush()
    assert metrics.keys(ledger, run.id) == sorted(many)
    assert log.dropped == 0
    assert metrics.curve(ledger, run.id, "layer/7/norm").values.tolist() == [7.0]


def test_a_writer_that_is_closed_on_a_full_disk_ends_and_counts_what_is_lost(disk: Script) -> None:
    said = disk(
        """
from engine.ledger import Ledger, metrics, runs
ledger = Ledger.open(disk / "ledger.db")
run = runs.create(ledger, name="speech", runs_folder=disk, profile="", settings={})
log = metrics.Writer(ledger, run.id)
(disk / "fill").write_bytes(bytes(max(0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize)))
for step in range(3000):
    log.log(step, {f"key/{number}": float(number) for number in range(50)})
log.close(timeout=0.2)
kept = len(metrics.curve(ledger, run.id, "key/1").steps)
print(kept + log.dropped, kept < 3000, log.trouble != "")
"""
    )
    assert said == "3000 True True\n"


def test_a_run_that_is_deleted_meanwhile_ends_its_metrics_quietly(ledger: Ledger, run: Run) -> None:
    log = Writer(ledger, run.id)
    log.log(0, {"train/loss": 1.0})
    assert log.flush()
    with ledger.transaction() as connection:
        connection.execute("DELETE FROM run")
    log.log(1, {"train/loss": 1.0})
    log.log(2, {"train/loss": 1.0})
    log.close()
    assert log.dropped == 2
    assert log.trouble
    assert ledger.value("SELECT count(*) FROM tail") == 0


@pytest.mark.parametrize(
    ("step", "values"),
    [
        (1, {"train/loss": "much"}),
        (1, {"train/loss": None}),
        (1, {7: 1.0}),
        (1, {"train/\ud800": 1.0}),
        (1.5, {"train/loss": 1.0}),
        (2**63, {"train/loss": 1.0}),
        (None, {"train/loss": 1.0}),
    ],
)
def test_what_is_no_metric_is_the_callers_error_and_harms_nothing(
    ledger: Ledger, run: Run, step: Any, values: Any
) -> None:
    with Writer(ledger, run.id) as log:
        log.log(0, {"train/loss": 1.0})
        with pytest.raises((TypeError, ValueError)):
            log.log(step, values)
        log.log(2, {"train/loss": 1.0})
    assert log.trouble == ""
    assert metrics.curve(ledger, run.id, "train/loss").steps.tolist() == [0, 2]


def test_numbers_of_numpy_and_a_call_without_values_are_taken(ledger: Ledger, run: Run) -> None:
    with Writer(ledger, run.id) as log:
        log.log(np.int64(3), {"train/loss": np.float32(0.5)})  # type: ignore[arg-type]
        sequence = log.log(4, {})
        assert log.flush()
        assert log.acknowledged == sequence
    assert metrics.curve(ledger, run.id, "train/loss").steps.tolist() == [3]


def test_a_time_without_writing_is_told_also_where_nothing_was_lost(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.05)
    monkeypatch.setattr(writer, "RETRY", 0.05)
    with Writer(ledger, run.id) as log:
        with WriteLock(ledger.path.with_name("ledger.db.lock")):
            log.log(1, {"train/loss": 1.0})
            assert "held" in trouble(log)
        assert log.flush()
        log.log(2, {"train/loss": 1.0})
    (told,) = [event for event in events.of_run(ledger, run.id) if event.kind == "gap"]
    assert told.level == "warning"
    assert told.text.startswith("no metrics were lost, for ")
    assert told.detail["rows"] == 0
    assert metrics.curve(ledger, run.id, "train/loss").steps.tolist() == [1, 2]


def test_rows_that_are_dropped_while_a_gap_is_told_are_told_next(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Packer.write

    def slow(self: Packer, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        write(self, connection, rows)
        if rows[0].step == 10:
            log._drop(8)

    monkeypatch.setattr(Packer, "write", slow)
    with Writer(ledger, run.id) as log:
        log._drop(3)
        for step in (10, 11):
            log.log(step, {"train/loss": 1.0})
            assert log.flush()
    told = [event.detail for event in events.of_run(ledger, run.id) if event.kind == "gap"]
    assert [(detail["rows"], detail["last_step"]) for detail in told] == [(1, 3), (1, 8)]
    assert log.dropped == 2


def test_a_clock_that_steps_back_loses_nothing_and_moves_no_step(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([2e9, 2e9 + 1, 1e9, 1e9 + 1, -5.0])
    monkeypatch.setattr(writer.time, "time", lambda: next(clock, 1e9))
    with Writer(ledger, run.id) as log:
        for step in range(5):
            log.log(step, {"train/loss": float(step)})
        assert log.flush()
        seen = metrics.curve(ledger, run.id, "train/loss")
        log.log(5, {"train/loss": 5.0})
    increment = metrics.curve(ledger, run.id, "train/loss", after=seen.seq)
    assert seen.joined(increment).values.tolist() == [0, 1, 2, 3, 4, 5]
    assert metrics.curve(ledger, run.id, "train/loss").times.tolist() == [2e9, 2e9 + 1, 1e9, 1e9 + 1, -5.0, 1e9]
