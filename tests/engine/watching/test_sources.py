"""Several sources of one run, and several runs in one folder."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorboardX import SummaryWriter

from engine import machine
from engine.errors import Problem
from engine.ledger import Ledger, checkpoints, jobs, metrics, runs
from engine.ledger.exchange import adding
from engine.ledger.exchange.imported import Gathering, Points
from engine.ledger.exchange.tensorboard import EventFolder
from engine.ledger.states import State
from engine.watching.combining import BEST_FIRST, Combining, Source
from engine.watching.sources import Heard, Sources
from engine.watching.verdict import FRESH, Verdict, verdict
from engine.watching.watch import Watch

START = 1_790_000_000.0


def events(
    out: Path, session: str, losses: dict[int, float], *, start: float = START, ended: bool = False, host: str = ""
) -> None:
    """A folder of event files, as Trainer's callback writes one."""
    with SummaryWriter(logdir=str(out / "runs" / session)) as writer:
        (file,) = (out / "runs" / session).glob("*tfevents*")
        for step, loss in losses.items():
            writer.add_scalar("train/loss", loss, step, walltime=start + step)
        if ended:
            writer.add_scalar("train/train_runtime", 9.0, max(losses), walltime=start + max(losses))
    file.rename(file.with_name(f"events.out.tfevents.{start:.0f}.{host or machine.here().host}"))


def losses(ledger: Ledger, run: runs.Run) -> dict[int, float]:
    """Step and loss, as they stand."""
    curve = metrics.curve(ledger, run.id, "train/loss")
    return dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True))


def looked(ledger: Ledger, out: Path) -> runs.Run:
    """The run after one look by a new watch."""
    watch = Watch(ledger, out, runs_folder=out / "ours")
    try:
        found = watch.look()
        assert found is not None
        return found
    finally:
        watch.close()


def test_a_session_that_went_on_belongs_to_the_run_and_replaces_what_it_did_again(ledger: Ledger, out: Path) -> None:
    events(out, "a", {1: 1.0, 2: 0.5, 3: 0.25})
    first = looked(ledger, out)
    events(out, "b", {3: 0.75, 4: 0.125}, start=START + 100, ended=True)
    again = looked(ledger, out)
    assert again.uid == first.uid
    assert losses(ledger, again) == {1: 1.0, 2: 0.5, 3: 0.75, 4: 0.125}
    assert (again.state, again.step) == (State.FINISHED, 4)
    assert losses(ledger, looked(ledger, out)) == losses(ledger, again)


def test_a_session_that_begins_anew_is_another_run(ledger: Ledger, out: Path) -> None:
    events(out, "a", {1: 1.0, 2: 0.5, 3: 0.25}, ended=True)
    first = looked(ledger, out)
    events(out, "b", {1: 8.0, 2: 4.0}, start=START + 100)
    second = looked(ledger, out)
    assert second.uid != first.uid
    assert losses(ledger, second) == {1: 8.0, 2: 4.0}
    assert losses(ledger, first) == {1: 1.0, 2: 0.5, 3: 0.25}
    assert len(runs.listed(ledger)) == 2


def test_a_watch_sees_another_run_begin_beside_the_old_one(ledger: Ledger, out: Path) -> None:
    events(out, "a", {1: 1.0, 2: 0.5})
    watch = Watch(ledger, out, runs_folder=out / "ours")
    try:
        first = watch.look()
        events(out, "b", {1: 8.0}, start=START + 100)
        second = watch.look()
    finally:
        watch.close()
    assert first is not None
    assert second is not None
    assert first.uid != second.uid
    assert losses(ledger, first) == {1: 1.0, 2: 0.5}
    assert losses(ledger, second) == {1: 8.0}


@pytest.mark.parametrize("restarted", [False, True], ids=["the same watch", "another watch"])
def test_a_run_that_another_took_the_place_of_does_not_stay_at_work(ledger: Ledger, out: Path, restarted: bool) -> None:
    """Who is seen there lives for the next training; of how the one before ended nobody has told."""
    events(out, "a", {1: 1.0, 2: 0.5})
    watch = Watch(ledger, out, runs_folder=out / "ours")
    try:
        first = watch.look()
        assert first is not None
        assert first.state is State.RUNNING
        if restarted:
            os.close(watch._lock)
            watch = Watch(ledger, out, runs_folder=out / "ours")
        events(out, "b", {1: 8.0}, start=START + 100)
        second = watch.look()
        assert second is not None
        assert {run.uid: run.state for run in runs.listed(ledger)} == {
            first.uid: State.LOST,
            second.uid: State.RUNNING,
        }
    finally:
        watch.close()


def test_checkpoints_of_an_older_run_are_not_the_new_one_s(ledger: Ledger, out: Path) -> None:
    state = {"global_step": 500, "max_steps": 900, "log_history": [{"step": 500, "loss": 9.0}]}
    (out / "checkpoint-500").mkdir()
    old = out / "checkpoint-500" / "trainer_state.json"
    old.write_text(json.dumps(state))
    os.utime(old, (START - 3600, START - 3600))
    events(out, "a", {1: 1.0, 2: 0.5})
    run = looked(ledger, out)
    assert (run.step, run.steps, losses(ledger, run)) == (2, None, {1: 1.0, 2: 0.5})


def test_what_was_last_written_long_ago_by_nobody_is_lost(ledger: Ledger, out: Path) -> None:
    events(out, "a", {1: 1.0, 2: 0.5})
    for file in (out / "runs" / "a").iterdir():
        os.utime(file, (START, START))
    assert looked(ledger, out).state is State.LOST


def test_what_another_machine_wrote_is_running_there_as_far_as_can_be_known(ledger: Ledger, out: Path) -> None:
    events(out, "a", {1: 1.0, 2: 0.5}, host="box.example.org")
    for file in (out / "runs" / "a").iterdir():
        os.utime(file, (START, START))
    run = looked(ledger, out)
    job = jobs.newest_training(ledger, run.id)
    assert job is not None
    assert (run.state, job.host, job.heartbeat) == (State.RUNNING, "box.example.org", START)


RUNNING, FINISHED, LOST = Verdict(State.RUNNING), Verdict(State.FINISHED), Verdict(State.LOST)
FAILED = Verdict(State.FAILED, "exit 1", "Its tracker says that it ended with exit 1.")


@pytest.mark.parametrize(
    ("heard", "step", "alive", "expected"),
    [
        (Heard(trained=True), 5, True, FINISHED),  # its program may do more
        (Heard(), 5, True, RUNNING),
        (Heard(), 9, True, RUNNING),  # it validates and saves
        (Heard(), 9, False, FINISHED),
        (Heard(), 5, False, LOST),
        (Heard(newest=START - 1), 5, None, RUNNING),
        (Heard(newest=START - FRESH), 5, None, LOST),
        (Heard(raised="KeyboardInterrupt"), 5, True, RUNNING),  # not yet
        (Heard(ended=State.FINISHED), 5, False, FINISHED),
        (Heard(ended=State.FAILED, cause="exit 1"), 9, True, RUNNING),
        (Heard(ended=State.FAILED, cause="exit 1"), 9, False, FAILED),  # though all steps were done
    ],
)
def test_what_cannot_be_known_is_not_claimed(heard: Heard, step: int, alive: bool | None, expected: Verdict) -> None:
    assert verdict(heard, step=step, steps=9, alive=alive, now=START) == expected


@pytest.mark.parametrize(
    ("raised", "state", "cause"),
    [
        ("KeyboardInterrupt", State.STOPPED, "signal"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", State.FAILED, "OOM at 5"),
        ("RuntimeError: CUDA error: out of memory", State.FAILED, "OOM at 5"),
        ("OSError: [Errno 28] No space left on device", State.FAILED, "disk"),
        ("json.decoder.JSONDecodeError: Expecting value", State.FAILED, "JSONDecodeError"),
    ],
)
def test_the_exception_that_ended_it_is_its_cause(raised: str, state: State, cause: str) -> None:
    found = verdict(Heard(raised=raised), step=5, steps=9, alive=False, now=START)
    assert (found.state, found.cause) == (state, cause)


def given_points(found: dict[int, float]) -> dict[str, Points]:
    gathering = Gathering()
    for step, value in found.items():
        gathering.add("train/loss", step, START + step, value)
    return gathering.take()


TOLD = st.dictionaries(st.integers(1, 9), st.sampled_from([0.5, 1.0, float("nan"), float("inf")]), max_size=9)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(looks=st.lists(st.fixed_dictionaries(dict.fromkeys(BEST_FIRST, TOLD)), min_size=1, max_size=4))
def test_of_several_sources_the_best_counts_in_whatever_order_they_come(
    ledger: Ledger, out: Path, looks: list[dict[Source, dict[int, float]]]
) -> None:
    run = runs.create(ledger, name="combined", runs_folder=out, profile="", settings={})
    combining = Combining(ledger, run.id)
    expected: dict[int, tuple[int, float]] = {}
    for look in looks:
        for rank, source in enumerate(BEST_FIRST):
            combining.add(source, given_points(look[source]))
            for step, value in look[source].items():
                if rank <= expected.get(step, (9, 0.0))[0]:
                    expected[step] = rank, value
    found = losses(ledger, run)
    steps = sorted(expected)
    assert sorted(found) == steps
    np.testing.assert_array_equal([found[step] for step in steps], [expected[step][1] for step in steps])
    rows = "SELECT seq, step FROM tail WHERE run = ?"
    written = ledger.rows(rows, (run.id,))
    again = Combining(ledger, run.id)  # of a watch that is started again
    again.add("text", given_points({step: value for step, (_, value) in expected.items()}))
    assert ledger.rows(rows, (run.id,)) == written and len(written) == len(steps)


def test_a_tracker_that_comes_late_brings_the_times(ledger: Ledger, out: Path) -> None:
    run = runs.create(ledger, name="timed", runs_folder=out, profile="", settings={})
    combining = Combining(ledger, run.id)
    exact = given_points({1: 0.5, 2: 1.0})
    late = {key: Points(each.steps, each.times + 60, each.values) for key, each in exact.items()}
    combining.add("trainer", late)
    combining.add("tensorboard", exact)
    combining.add("trainer", late)
    assert metrics.curve(ledger, run.id, "train/loss").times.tolist() == [START + 1, START + 2]


def test_nothing_is_read_twice(out: Path) -> None:
    events(out, "a", {1: 1.0})
    sources = Sources(out)
    assert [len(points) for _, points in sources.read().points] == [1]
    assert [len(points) for _, points in sources.read().points] == [0]


def test_what_could_not_be_written_is_written_by_the_next_look(
    ledger: Ledger, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Problem("the disk is full", code="disk")

    events(out, "a", {1: 1.0, 2: 0.5})
    watch = Watch(ledger, out, runs_folder=out / "ours")
    try:
        with monkeypatch.context() as patch, pytest.raises(Problem, match="disk is full"):
            patch.setattr(Combining, "_write", full)
            watch.look()
        run = watch.look()
    finally:
        watch.close()
    assert run is not None
    assert losses(ledger, run) == {1: 1.0, 2: 0.5}
    assert len(runs.listed(ledger)) == 1


def test_checkpoints_that_come_and_go_disturb_no_look(ledger: Ledger, out: Path) -> None:
    over = threading.Event()

    def rotate() -> None:
        """As Trainer does with save_total_limit."""
        for step in itertools.count(1):
            if over.is_set():
                return
            folder = out / f"checkpoint-{step}"
            folder.mkdir()
            log = [{"step": at, "loss": 1 / at} for at in range(1, step + 1)]
            (folder / "weights").write_bytes(bytes(100_000))
            (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": log}))
            if step > 2:
                shutil.rmtree(out / f"checkpoint-{step - 2}")

    rotating = threading.Thread(target=rotate)
    rotating.start()
    watch = Watch(ledger, out, runs_folder=out.parent / "ours")
    try:
        for _ in range(60):
            watch.look()
        over.set()
        rotating.join()
        run = watch.look()
    finally:
        over.set()
        watch.close()
    assert run is not None
    assert losses(ledger, run) == {step: 1 / step for step in range(1, run.step + 1)}
    assert [kept.step for kept in checkpoints.of_run(ledger, run.id)] == [run.step - 1, run.step]


def test_what_was_watched_is_not_imported_as_well(ledger: Ledger, out: Path) -> None:
    events(out, "a", {1: 1.0, 2: 0.5, 3: 0.25})
    events(out, "b", {3: 0.75, 4: 0.125}, start=START + 100, ended=True)
    run = looked(ledger, out)
    for session in ("a", "b"):
        told = EventFolder(out / "runs" / session, session).read()
        assert told is not None
        added = adding.add(ledger, told, runs_folder=out / "ours")
        assert (added.uid, added.new, added.left) == (run.uid, False, "it was watched as it trained")
    assert len(runs.listed(ledger)) == 1
