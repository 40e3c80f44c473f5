"""The queue in the ledger: its order, how it is changed, and that the dead hold up nobody."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import Problem
from engine.ledger import Ledger, jobs, queue, runs, schema
from engine.ledger.jobs import Job
from engine.ledger.states import State


def waiter(ledger: Ledger, name: str, *places: str) -> Job:
    """A run whose queued job is this very process."""
    run = runs.create(ledger, name=name, runs_folder=ledger.path.parent, profile="", settings={})
    job = jobs.create(ledger, "train", run=run.id, argument={"queue": True}, log=run.folder / "log.txt")
    queue.set_places(ledger, job, places or ("cpu",))
    return jobs.sign_in(ledger, job, pid=os.getpid())


def names(ledger: Ledger) -> list[str]:
    assert [each.place for each in queue.waiting(ledger)] == list(range(1, len(queue.waiting(ledger)) + 1))
    return [each.name for each in queue.waiting(ledger)]


def run_of(job: Job) -> int:
    assert job.run is not None
    return job.run


def test_who_comes_first_is_first_and_what_begins_leaves_the_queue(ledger: Ledger) -> None:
    one, two, three = (waiter(ledger, name) for name in ("one", "two", "three"))
    at_once = runs.create(ledger, name="now", runs_folder=ledger.path.parent, profile="", settings={})
    jobs.create(ledger, "train", run=at_once.id, argument={}, log=at_once.folder / "log.txt")
    assert names(ledger) == ["one", "two", "three"]
    assert [queue.ahead(ledger, job, ("cpu",)) for job in (one, two, three)] == ["", "one", "one"]
    jobs.set_state(ledger, one, State.STARTING)
    assert names(ledger) == ["two", "three"] and queue.ahead(ledger, two, ("cpu",)) == ""


def test_the_order_is_changed_and_stays_changed_for_whoever_comes_later(ledger: Ledger) -> None:
    one, two, three = (waiter(ledger, name) for name in ("one", "two", "three"))
    queue.move(ledger, run_of(three), "first")
    assert names(ledger) == ["three", "one", "two"]
    queue.move(ledger, run_of(three), "last")
    assert names(ledger) == ["one", "two", "three"]
    queue.move(ledger, run_of(three), run_of(two))
    assert names(ledger) == ["one", "three", "two"]
    queue.move(ledger, run_of(one), run_of(one))
    waiter(ledger, "four")
    assert names(ledger) == ["one", "three", "two", "four"]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(moves=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["first", "last", 0, 1, 2, 3])), max_size=6))
def test_however_it_is_moved_nobody_is_lost_and_the_moved_one_stands_where_it_was_put(
    ledger: Ledger, moves: list[tuple[int, str | int]]
) -> None:
    with ledger.transaction() as connection:
        connection.execute("DELETE FROM run")
    found = [waiter(ledger, name) for name in "abcd"]
    expected = list("abcd")
    for who, where in moves:
        name = "abcd"[who]
        at = run_of(found[where]) if isinstance(where, int) else where
        queue.move(ledger, run_of(found[who]), at)  # type: ignore[arg-type]
        if where != who:
            expected.remove(name)
            index = {"first": 0, "last": 3}.get(str(where))
            expected.insert(expected.index("abcd"[int(where)]) if index is None else index, name)
        assert names(ledger) == expected


def test_a_waiter_that_was_killed_holds_up_nobody(ledger: Ledger) -> None:
    killed, behind = waiter(ledger, "killed"), waiter(ledger, "behind")
    assert queue.ahead(ledger, behind, ("cpu",)) == "killed"
    with ledger.transaction() as connection:  # its pid is another process's by now
        connection.execute("UPDATE job SET pid_started = pid_started - 1 WHERE id = ?", (killed.id,))
    assert queue.ahead(ledger, behind, ("cpu",)) == ""
    assert names(ledger) == ["behind"]
    with pytest.raises(Problem, match="not waiting in the queue"):
        queue.move(ledger, run_of(killed), "first")
    with pytest.raises(Problem, match="not waiting in the queue"):
        queue.move(ledger, run_of(behind), run_of(killed))
    assert names(ledger) == ["behind"]


def test_only_who_wants_the_same_place_and_works_on_this_machine_is_waited_for(ledger: Ledger) -> None:
    waiter(ledger, "zero", "GPU-0")
    both = waiter(ledger, "both", "GPU-0", "GPU-1")
    one = waiter(ledger, "one", "GPU-1")
    assert queue.ahead(ledger, one, ("GPU-1",)) == "both"
    assert queue.ahead(ledger, one, ("GPU-2",)) == ""
    with ledger.transaction() as connection:
        connection.execute("UPDATE job SET host = 'elsewhere' WHERE id = ?", (both.id,))
    assert queue.ahead(ledger, one, ("GPU-1",)) == ""


def test_a_ledger_from_before_the_queue_gets_one_and_keeps_its_jobs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home / "old.db"
    home.mkdir()
    connection = sqlite3.connect(path)
    for statement in schema.FIRST:
        connection.execute(statement)
    connection.execute(
        "INSERT INTO run (id, uid, name, created, folder, state) VALUES (1, 'abc', 'old', 1, '/', 'failed')"
    )
    connection.execute(
        "INSERT INTO job (uid, kind, run, argument, state, created, log) VALUES ('def', 'train', 1, '{}', 'failed', 1, '/l')"
    )
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    with Ledger.open(path) as ledger:
        (job,) = jobs.of_run(ledger, 1)
        assert (job.uid, job.state, job.turn, job.places) == ("def", State.FAILED, None, "[]")
        waiter(ledger, "new")
        assert names(ledger) == ["new"]
    assert path.with_name(f"old.db.before-{schema.VERSION}").exists()
