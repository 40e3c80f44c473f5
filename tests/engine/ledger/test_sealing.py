"""Sealed rows: smaller, as exact, and read as one with those that are not sealed yet."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import numpy as np
import pytest

from engine.errors import Problem
from engine.ledger import Ledger, metrics, sealing, summaries, writer
from engine.ledger.metrics import Writer
from engine.ledger.packing import Packer, Row
from engine.ledger.runs import Run

Script = Callable[..., str]
TEN = {f"metric/{number}": number / 3 for number in range(10)}


def tail(ledger: Ledger) -> int:
    return int(str(ledger.value("SELECT count(*) FROM tail")))


def test_a_long_run_is_sealed_while_it_goes_on_and_whole_when_it_ends(ledger: Ledger, run: Run) -> None:
    with Writer(ledger, run.id) as log:
        for step in range(10_000):
            log.log(step, {"train/loss": step / 7})
            if step % 100 == 0:
                log.log(step, {"validation/loss": step / 11})
        assert log.flush()
        assert ledger.value("SELECT sum(n) FROM segment") == 10_100 - tail(ledger)
        assert tail(ledger) < sealing.SEGMENT
    assert tail(ledger) == 0
    assert ledger.rows("SELECT n FROM segment s JOIN keyset k ON k.id = s.keyset ORDER BY k.id, first_step") == [
        (4096,),
        (4096,),
        (1808,),
        (100,),
    ], "small segments are made full ones"
    curves = metrics.curves(ledger, run.id, ["train/loss", "validation/loss", "never/logged"])
    assert curves["train/loss"].values.tolist() == [step / 7 for step in range(10_000)]
    assert curves["validation/loss"].steps.tolist() == list(range(0, 10_000, 100))
    assert len(curves["never/logged"].steps) == 0


def test_ten_metrics_a_step_take_nine_bytes_a_point_at_most(ledger: Ledger, run: Run) -> None:
    def size() -> int:
        return 4096 * int(str(ledger.value("PRAGMA page_count")))

    empty = size()
    with Writer(ledger, run.id) as log:
        for step in range(60_000):
            log.log(step, TEN)
    assert (size() - empty) / (60_000 * len(TEN)) <= 9


def test_times_are_the_same_in_the_tail_and_in_a_segment(ledger: Ledger, run: Run) -> None:
    """Also of a clock that steps back, and far."""
    times = [1_773_320_700.1234, 1_773_320_700.9996, 1_773_317_100.5, 0.0, -86_400.001, 4_102_444_800.0]
    with ledger.transaction() as connection:
        rows = [Row(0, step, time, ("train/loss",), (1.0,)) for step, time in enumerate(times)]
        Packer(run.id).write(connection, rows)
    before = metrics.curve(ledger, run.id, "train/loss")
    assert before.times.tolist() == [round(time, 3) for time in times]
    with ledger.transaction() as connection:
        sealing.seal(connection, run.id)
    assert metrics.curve(ledger, run.id, "train/loss").times.tolist() == before.times.tolist()


def test_an_increment_over_a_sealing_brings_only_what_is_new(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SEGMENT", 50)
    monkeypatch.setattr(sealing, "SEGMENT", 50)
    with Writer(ledger, run.id) as log:
        for step in range(120):
            log.log(step, {"train/loss": 1.0})
        assert log.flush()
        seen = metrics.curve(ledger, run.id, "train/loss")
        for step in range(110, 240):  # ten are replayed, in a segment that was sealed
            log.log(step, {"train/loss": 2.0})
    increment = metrics.curve(ledger, run.id, "train/loss", after=seen.seq)
    assert increment.steps.tolist() == list(range(110, 240))
    assert set(increment.values) == {2.0}
    joined = seen.joined(increment)
    whole = metrics.curve(ledger, run.id, "train/loss")
    assert joined.values.tolist() == whole.values.tolist() == [1.0] * 110 + [2.0] * 130
    assert len(metrics.curve(ledger, run.id, "train/loss", after=joined.seq).steps) == 0


def test_an_increment_out_of_a_segment_begins_behind_what_is_known(ledger: Ledger, run: Run) -> None:
    with Writer(ledger, run.id) as log:
        for step in range(60):
            log.log(step, {"train/loss": 1.0})
        assert log.flush()
        seen = metrics.curve(ledger, run.id, "train/loss")
        for step in range(60, 100):
            log.log(step, {"train/loss": 1.0})
    assert ledger.rows("SELECT n FROM segment") == [(100,)]
    assert metrics.curve(ledger, run.id, "train/loss", after=seen.seq).steps.tolist() == list(range(60, 100))


def test_a_full_segment_is_not_written_again(ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "SEGMENT", 4)

    def sealed(first: int, last: int) -> list[int]:
        with ledger.transaction() as connection:
            rows = [Row(0, step, 0.0, ("train/loss",), (1.0,)) for step in range(first, last)]
            Packer(run.id).write(connection, rows)
            sealing.seal(connection, run.id)
        return [n for (n,) in ledger.rows("SELECT n FROM segment ORDER BY first_step")]

    assert sealed(0, 8) == [4, 4]
    with ledger.transaction() as connection:  # would be a problem to whom looks at it
        connection.execute("UPDATE segment SET steps = x'07'")
    assert sealed(8, 10) == [4, 4, 2]
    assert sealed(10, 13) == [4, 4, 4, 1]


def test_a_batch_of_metrics_marks_its_run_as_changed(ledger: Ledger, run: Run) -> None:
    def changed() -> int:
        return int(str(ledger.value("SELECT changed FROM run WHERE id = ?", (run.id,))))

    seen = changed()
    with Writer(ledger, run.id) as log:
        log.log(1, {"train/loss": 1.0})
        assert log.flush()
        assert (now := changed()) > seen
    assert changed() == now, "sealing changes nothing that is to be seen"


def test_a_deleted_run_leaves_nothing_behind(ledger: Ledger, run: Run) -> None:
    with Writer(ledger, run.id) as log:
        log.log(1, {"train/loss": 1.0})
    with ledger.transaction() as connection:
        connection.execute("DELETE FROM run")
    assert [ledger.value(f"SELECT count(*) FROM {name}") for name in ("segment", "packed", "series")] == [0, 0, 0]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE packed SET vals = substr(vals, 9)",
        "UPDATE packed SET vals = x'00000000'",
        "DELETE FROM packed",
        "UPDATE segment SET steps = substr(steps, 1, 5)",
        "UPDATE segment SET times = x'07'",
        "UPDATE segment SET n = 2",
    ],
)
def test_a_damaged_segment_is_a_problem_and_never_a_wrong_curve(ledger: Ledger, run: Run, damage: str) -> None:
    with Writer(ledger, run.id) as log:
        for step in (1, 2, 5, 9):
            log.log(step, {"train/loss": 1.0})
    with ledger.transaction() as connection:
        connection.execute(damage)
    with pytest.raises(Problem, match="cannot be read") as caught:
        metrics.curve(ledger, run.id, "train/loss")
    assert caught.value.code == "ledger"
    assert "workbench ledger check" in caught.value.do
    log = Writer(ledger, run.id)  # a run that goes on replays into what cannot be read: nothing more is lost
    log.log(9, {"train/loss": 1.0})
    log.close(timeout=1)
    assert tail(ledger) == 1
    assert log.trouble == ""


def test_what_cannot_be_sealed_on_a_full_disk_stays_readable_and_is_sealed_later(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = sealing._write

    def full(*arguments: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sealing, "_write", full)
    with Writer(ledger, run.id) as log:
        for step in range(100):
            log.log(step, TEN)
    assert tail(ledger) == 100
    assert log.trouble == ""
    monkeypatch.setattr(sealing, "_write", write)
    with Writer(ledger, run.id) as log:
        log.log(100, TEN)
    assert tail(ledger) == 0
    np.testing.assert_array_equal(metrics.curve(ledger, run.id, "metric/3").values, [1.0] * 101)


def test_a_run_of_an_older_ledger_is_read_and_goes_on(ledger: Ledger, run: Run) -> None:
    """Its rows are all in the tail, more than a segment's worth, with times of microseconds."""
    with ledger.transaction() as connection:
        rows = [Row(0, step, 1e9 + step / 7, ("train/loss",), (float(step),)) for step in range(9000)]
        Packer(run.id).write(connection, rows)
        connection.execute("UPDATE tail SET time = 1e9 + step / 7.0")
    before = metrics.curve(ledger, run.id, "train/loss")
    with Writer(ledger, run.id) as log:
        log.log(9000, {"train/loss": 9000.0})
        assert log.flush()
    after = metrics.curve(ledger, run.id, "train/loss")
    assert after.values.tolist() == [float(step) for step in range(9001)]
    np.testing.assert_allclose(after.times[:-1], before.times, rtol=0, atol=0.0005001)
    assert ledger.value("SELECT count(*) FROM segment") == 3
    assert summaries.of_all(ledger)[run.id]["train/loss"].last_step == 9000


def test_a_disk_that_fills_and_is_freed_again_and_again_loses_nothing_that_was_acknowledged(disk: Script) -> None:
    said = disk(
        """
from engine.ledger import Ledger, events, metrics, runs, sealing, writer
sealing.SEGMENT = writer.SEGMENT = 256
writer.QUEUE_BOUND, writer.RETRY, writer.GATHER = 500, 0.02, 0.01
ledger = Ledger.open(disk / "ledger.db")
run = runs.create(ledger, name="speech", runs_folder=disk, profile="", settings={})
values = {f"key/{number}": float(number) for number in range(20)}
log = metrics.Writer(ledger, run.id)
step = troubles = 0
for _ in range(4):
    (disk / "fill").write_bytes(bytes(max(0, os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 150_000)))
    dropped = log.dropped
    while log.dropped < dropped + 300:
        log.log(step, values)
        step += 1
        assert step < 200_000
    troubles += "full" in log.trouble
    acknowledged = metrics.curve(ledger, run.id, "key/7").steps.tolist()
    (disk / "fill").unlink()
    assert log.flush(20)
    assert set(acknowledged) <= set(metrics.curve(ledger, run.id, "key/7").steps.tolist())
log.close()
told = [event for event in events.of_run(ledger, run.id) if event.kind == "gap"]
curve = metrics.curve(ledger, run.id, "key/7")
print(troubles, len(curve.steps) + log.dropped == step, sum(event.detail["rows"] for event in told) == log.dropped)
print(set(curve.values.tolist()), ledger.value("PRAGMA integrity_check"), ledger.value("SELECT count(*) FROM tail"))
ledger.close()
""",
        size=16384,
    )
    assert said.splitlines() == ["4 True True", "{7.0} ok 0"]
