"""Ledgers of several machines become one, whatever the order and however often."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import Problem
from engine.ledger import (
    Ledger,
    artifacts,
    checkpoints,
    evaluations,
    events,
    jobs,
    labels,
    merging,
    metrics,
    opening,
    runs,
    schema,
    sealing,
)
from engine.ledger.merging import merge
from engine.ledger.packing import Packer, Row
from engine.ledger.runs import Run
from engine.ledger.states import State
from tests.engine.ledger.conftest import Script

HIDDEN = ("id", "run", "job", "key", "changed", "evaluation")


def told(ledger: Ledger) -> dict[str, Any]:
    """All that a ledger holds, without row ids and sequence numbers, which mean nothing in another file."""

    def rows(query: str, *values: int) -> list[str]:
        with ledger.reading() as connection:
            cursor = connection.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [repr([(n, v) for n, v in zip(names, row, strict=True) if n not in HIDDEN]) for row in cursor]

    found: dict[str, Any] = {}
    for run, uid in ledger.rows("SELECT id, uid FROM run"):
        parts = {
            table: sorted(rows(f"SELECT * FROM {table} WHERE run = ?", run))
            for table in ("run_document", "tag", "said", "job", "orders", "checkpoint", "artifact")
        }
        parts["run"] = rows("SELECT * FROM run WHERE id = ?", run)
        parts["series"] = rows(
            "SELECT k.name, s.* FROM series s JOIN key k ON k.id = s.key WHERE run = ? ORDER BY 1", run
        )
        parts["event"] = sorted(
            rows("SELECT e.*, j.uid FROM event e LEFT JOIN job j ON j.id = e.job WHERE e.run = ?", run)
        )
        for name in metrics.keys(ledger, run):
            curve = metrics.curve(ledger, run, name)
            parts[f"curve {name}"] = [column.tobytes() for column in (curve.steps, curve.values, curve.times)]
        found[uid] = parts
    found["evaluations"] = sorted(
        (
            uid,
            *rows("SELECT * FROM evaluation WHERE id = ?", each),
            rows("SELECT * FROM item WHERE evaluation = ?", each),
        )
        for each, uid in ledger.rows(
            "SELECT e.id, coalesce(r.uid, '') FROM evaluation e LEFT JOIN run r ON r.id = e.run"
        )
    )
    return found


def whole(ledger: Ledger) -> bool:
    return ledger.value("PRAGMA integrity_check") == "ok" and not ledger.rows("PRAGMA foreign_key_check")


UIDS = st.sampled_from(["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"])
NAMES = st.sampled_from(["speech", "weather"])
SMALL = st.integers(0, 2)
VALUES = st.sampled_from([0.5, 1.0, float("nan"), float("inf")])
KEYS = st.sampled_from([("loss",), ("loss", "rate"), ("rate", "loss")])
Step = tuple[Callable[..., None], tuple[Any, ...]]


def created(connection: sqlite3.Connection, uid: str, folder: int) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO run (uid, name, created, folder, state, comparable) VALUES (?, ?, ?, ?, 'finished', 'same')",
        (uid, "weather" if uid.startswith("c") else "speech", ord(uid[0]), f"/nowhere/{folder}"),
    )
    connection.execute(
        "INSERT OR IGNORE INTO run_document (run, profile) SELECT id, 'rank = 8' FROM run WHERE uid = ?", (uid,)
    )
    worked(connection, uid, 0, 0)


def logged(
    connection: sqlite3.Connection, uid: str, keys: tuple[str, ...], step: int, value: float, seal: bool
) -> None:
    for (run,) in connection.execute("SELECT id FROM run WHERE uid = ?", (uid,)).fetchall():
        Packer(run).write(connection, [Row(0, step, 100.0 + step, keys, (value,) * len(keys))])
        if seal:
            sealing.seal(connection, run)


def worked(connection: sqlite3.Connection, uid: str, job: int, beat: int) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO job (uid, kind, run, argument, state, created, log, heartbeat, host)"
        " SELECT ?, ?, id, '{}', 'finished', 1, 'log', ?, 'box' FROM run WHERE uid = ?",
        (f"{uid[0]}{job}", "export" if job == 2 else "train", beat, uid),
    )
    if job == 2:
        connection.execute(
            "INSERT OR REPLACE INTO artifact (run, kind, path, bytes, fingerprint, created)"
            " SELECT id, 'export', 'export/merged', ?, 'f', 1 FROM run WHERE uid = ?",
            (beat, uid),
        )
    connection.execute(
        "INSERT INTO event (run, job, time, level, kind, text)"
        " SELECT run, id, 1, 'info', 'test', ? FROM job WHERE uid = ?",
        (f"beat {beat}", f"{uid[0]}{job}"),
    )


def said(connection: sqlite3.Connection, uid: str, what: str, word: str | float | None, when: int) -> None:
    query = """
        SELECT id FROM run WHERE uid = ? AND NOT EXISTS (SELECT 1 FROM said WHERE run = run.id AND what = ? AND time > ?)
    """
    for (run,) in connection.execute(query, (uid, what, when)).fetchall():
        if what == "tags":
            connection.execute("DELETE FROM tag WHERE run = ?", (run,))
            connection.execute("INSERT INTO tag (run, name) VALUES (?, ?)", (run, word))
        else:
            connection.execute(f"UPDATE run SET {what} = ? WHERE id = ?", (word, run))
        if what == "called":
            connection.execute("UPDATE run SET name = called WHERE id = ?", (run,))
        connection.execute("INSERT OR REPLACE INTO said (run, what, time) VALUES (?, ?, ?)", (run, what, when))
        labels.settle_baselines(connection)


def evaluated(connection: sqlite3.Connection, uid: str, number: int, answer: str, finished: bool) -> None:
    found = connection.execute("SELECT id FROM run WHERE uid = ?", (uid,)).fetchone()
    for run in (None, found[0]) if found else (None,):
        name = f"{uid if run else 'base'}-{number}"
        connection.execute(
            "INSERT OR IGNORE INTO evaluation (uid, run, model, model_name, suite, suite_fingerprint, conditions, created)"
            " VALUES (?, ?, 'm', 'm', 's', 's', 'c', 1)",
            (name, run),
        )
        mine = connection.execute("SELECT id FROM evaluation WHERE uid = ? AND finished IS NULL", (name,)).fetchone()
        if mine:
            connection.execute(
                "INSERT OR REPLACE INTO item (evaluation, item, variant, prompt, answer) VALUES (?, ?, 0, 'p', ?)",
                (*mine, answer, answer),
            )
        if mine and finished:
            answers = connection.execute("SELECT group_concat(answer) FROM item WHERE evaluation = ?", mine).fetchone()
            when = 1.0 + zlib.crc32(
                repr(answers).encode()
            )  # jobs that were told other things do not end at the same moment
            connection.execute("UPDATE evaluation SET finished = ?, n = 1 WHERE id = ?", (when, *mine))


MADE = st.one_of(
    st.tuples(st.just(created), st.tuples(UIDS, SMALL)),
    st.tuples(st.just(logged), st.tuples(UIDS, KEYS, SMALL, VALUES, st.booleans())),
    st.tuples(st.just(worked), st.tuples(UIDS, SMALL, SMALL)),
    st.tuples(st.just(evaluated), st.tuples(UIDS, SMALL, NAMES, st.booleans())),
)
WORDS = st.one_of(
    st.tuples(st.sampled_from(["called", "note", "tags"]), NAMES),
    st.tuples(st.sampled_from(["archived", "deleted"]), st.sampled_from([None, 5.0])),
    st.tuples(st.just("chosen"), st.integers(0, 1)),
)
SAID = st.builds(lambda uid, word, when: (said, (uid, *word, when)), UIDS, WORDS, st.integers(1, 3))
HISTORY = st.lists(MADE | SAID, max_size=12)
BEGINNING = [(created, ("aaaaaaaaaaaa", 0)), (created, ("bbbbbbbbbbbb", 0))]


def written(path: Path, steps: list[Step]) -> Path:
    with Ledger.open(path) as ledger, ledger.transaction() as connection:
        for work, arguments in steps:
            work(connection, *arguments)
    return path


def copied(path: Path, to: Path) -> Path:
    to.write_bytes(path.read_bytes())
    return to


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORY, HISTORY, HISTORY)
def test_merging_is_commutative_and_idempotent(shared: list[Step], ours: list[Step], theirs: list[Step]) -> None:
    """Two ledgers with a common past, each with a history of its own since."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        past = written(folder / "past.db", [*BEGINNING, *shared])
        one, two = (written(copied(past, folder / f"{n}.db"), steps) for n, steps in (("one", ours), ("two", theirs)))
        with (
            Ledger.open(copied(one, folder / "forth.db")) as forth,
            Ledger.open(copied(two, folder / "back.db")) as back,
        ):
            merge(forth, two)
            merge(back, one)
            assert told(forth) == told(back)
            assert whole(forth)
            before = told(forth)
            for again in (one, two, folder / "back.db"):
                merged = merge(forth, again)
                assert (merged.added, merged.updated, merged.evaluations, merged.renamed) == ((), (), 0, {})
            assert told(forth) == before


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(*[st.lists(MADE | SAID, max_size=10)] * 3)
def test_three_machines_may_meet_in_any_order(first: list[Step], second: list[Step], third: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        a, b, c = (written(folder / f"{number}.db", steps) for number, steps in enumerate((first, second, third)))
        ends = []
        for number, order in enumerate(([a, b, c], [c, a, b], [b, c, a])):
            with Ledger.open(folder / f"end-{number}.db") as end:
                for each in order:
                    merge(end, each)
                ends.append(told(end))
        assert ends[0] == ends[1] == ends[2]


def filled(path: Path, name: str = "speech") -> tuple[Path, Run]:
    """A ledger of its own with a run that has everything."""
    with Ledger.open(path) as ledger:
        run = runs.create(ledger, name=name, runs_folder=path.parent / "runs", profile="rank = 8", settings={"rank": 8})
        job = jobs.create(ledger, "train", run=run.id, argument={}, log=run.folder / "log.txt")
        with metrics.Writer(ledger, run.id) as log:
            for step in range(50):
                log.log(step, {"train/loss": 2.0 / (step + 1), "train/rate": 1e-4})
        checkpoints.add(ledger, run.id, step=40, path="checkpoints/40", size=7, validation=0.5, best=True)
        labels.tag(ledger, [run], "medical")
        asked = evaluations.begin(
            ledger, run=run.id, model="m", model_name=name, suite="s", suite_fingerprint="s", conditions="c"
        )
        item = evaluations.Item("1", 0, "why?", "because", None, None, 1.0, {})
        evaluations.add_items(ledger, asked, [item])
        evaluations.finish(ledger, asked, n=1, scores={"accuracy": 1.0})
        jobs.set_state(ledger, job, State.FINISHED)
        return path, runs.find(ledger, run.uid)


def test_a_run_of_another_machine_is_here_as_it_is_there(ledger: Ledger, tmp_path: Path) -> None:
    path, there = filled(tmp_path / "other.db")
    own = runs.create(ledger, name="mine", runs_folder=tmp_path, profile="", settings={})
    with metrics.Writer(ledger, own.id) as log:
        log.log(1, {"train/rate": 1.0})
        seen = log.log(2, {"train/loss": 1.0})
    merged = merge(ledger, path)
    assert (merged.added, merged.updated, merged.kept, merged.evaluations) == ((there.uid,), (), (), 1)
    here = runs.find(ledger, "speech")
    assert replace(here, id=0) == replace(there, id=0)
    curve = metrics.curve(ledger, here.id, "train/loss")
    assert curve.values.tolist() == [2.0 / (step + 1) for step in range(50)]
    assert labels.tags(ledger, here) == ("medical",)
    assert [each.scores for each in evaluations.of_run(ledger, here.id)] == [{"accuracy": 1.0}]
    assert metrics.curve(ledger, own.id, "train/loss").values.tolist() == [1.0]
    # What is logged from now on is newer than all that came.
    with metrics.Writer(ledger, own.id) as log:
        log.log(3, {"train/loss": 2.0})
    assert metrics.curve(ledger, own.id, "train/loss", after=max(seen, curve.seq)).steps.tolist() == [3]
    assert whole(ledger)


def test_a_run_that_went_on_is_brought_up_to_date_and_keeps_what_was_said_here(ledger: Ledger, tmp_path: Path) -> None:
    path, there = filled(tmp_path / "other.db")
    merge(ledger, path)
    changed = ledger.value("SELECT max(changed) FROM run")
    here = runs.find(ledger, there.uid)
    labels.set_note(ledger, here, "the good one")
    with Ledger.open(path) as other:
        jobs.create(other, "train", run=there.id, argument={}, log=there.folder / "log.txt")
        with metrics.Writer(other, there.id) as log:
            log.log(50, {"train/loss": 0.01, "train/rate": 1e-4})
        job = jobs.newest_training(other, there.id)
        assert job
        jobs.set_state(other, job, State.FAILED, cause="OOM at 50")
    merged = merge(ledger, path)
    assert (merged.updated, merged.conflicts) == ((there.uid,), ())
    now = runs.find(ledger, there.uid)
    assert (now.id, now.state, now.cause, now.note) == (here.id, State.FAILED, "OOM at 50", "the good one")
    assert metrics.curve(ledger, now.id, "train/loss").steps.tolist() == list(range(51))
    assert (ledger.value("SELECT changed FROM run WHERE id = ?", (now.id,)) or 0) > changed
    # An old copy takes nothing back.
    assert merge(ledger, filled(tmp_path / "third.db", "else")[0]).kept == ()
    assert merge(ledger, path).kept == (there.uid,)


def test_a_replayed_step_stays_the_newer_and_who_follows_sees_all_that_came(ledger: Ledger, tmp_path: Path) -> None:
    def logged(into: Ledger, run: Run, first: int, last: int) -> None:
        with into.transaction() as connection:
            rows = [Row(0, step, 0.0, ("train/loss", "train/rate"), (1.0, 1.0)) for step in range(first, last)]
            Packer(run.id).write(connection, rows)

    logged(ledger, runs.create(ledger, name="own", runs_folder=tmp_path, profile="", settings={}), 0, 100)
    with Ledger.open(tmp_path / "other.db") as other:
        run = runs.create(other, name="speech", runs_folder=tmp_path, profile="", settings={})
        logged(other, run, 0, 10)
        merge(ledger, other.path)
        here = runs.find(ledger, run.uid)
        seen = metrics.curve(ledger, here.id, "train/loss")
        logged(other, run, 10, 20)
        with other.transaction() as connection:
            sealing.seal(connection, run.id)  # and behind that, alone and not sealed yet
            Packer(run.id).write(connection, [Row(0, 5, 0.0, ("train/loss",), (9.0,))])
        merge(ledger, other.path)
    whole_curve = metrics.curve(ledger, here.id, "train/loss")
    assert whole_curve.values.tolist() == [*[1.0] * 5, 9.0, *[1.0] * 14]
    joined = seen.joined(metrics.curve(ledger, here.id, "train/loss", after=seen.seq))
    assert joined.steps.tolist() == list(range(20)) and joined.values.tolist() == whole_curve.values.tolist()


def test_what_was_evaluated_here_does_not_hold_back_what_was_trained_there(ledger: Ledger, tmp_path: Path) -> None:
    """Three jobs here, none of them training, and one there that went on."""
    path, there = filled(tmp_path / "other.db")
    merge(ledger, path)
    here = runs.find(ledger, there.uid)
    for _ in range(3):
        job = jobs.create(ledger, "evaluate", run=here.id, argument={}, log=here.folder / "evaluate.txt")
        events.add(ledger, "evaluation", "retention 61 %", run=here.id, job=job.id)
        jobs.set_state(ledger, job, State.FINISHED)
    artifacts.add(ledger, here, "export", tmp_path / "merged", size=1, fingerprint="f")
    with Ledger.open(path) as other, metrics.Writer(other, there.id) as log:
        log.log(50, {"train/loss": 0.01, "train/rate": 1e-4})
        events.add(other, "checkpoint", "checkpoint 50 saved", run=there.id)
    merged = merge(ledger, path)
    assert (merged.updated, merged.conflicts) == ((there.uid,), ())
    assert metrics.curve(ledger, here.id, "train/loss").steps.tolist() == list(range(51))
    assert [job.kind for job in jobs.of_run(ledger, here.id)].count("evaluate") == 3
    assert [each.text for each in events.of_run(ledger, here.id)].count("retention 61 %") == 3
    assert [each.kind for each in artifacts.of_run(ledger, here.id)] == ["export"]
    with Ledger.open(path) as other:
        assert merge(other, ledger.path).updated == (there.uid,)
        assert told(other) == told(ledger)


def test_a_run_that_went_on_in_two_places_keeps_the_longer_history_and_says_so(ledger: Ledger, tmp_path: Path) -> None:
    path, there = filled(tmp_path / "other.db")
    merge(ledger, path)
    here = runs.find(ledger, there.uid)
    with Ledger.open(path) as other:
        for where, run, times in ((ledger, here, 2), (other, there, 1)):
            for _ in range(times):
                job = jobs.create(where, "train", run=run.id, argument={}, log=run.folder / "log.txt")
                jobs.set_state(where, job, State.STOPPED)
    merged = merge(ledger, path)
    assert merged.kept == (there.uid,)
    assert [(each.uid, "this ledger's history is kept" in each.why) for each in merged.conflicts] == [(there.uid, True)]
    assert len(jobs.of_run(ledger, here.id)) == 3


def test_a_run_that_is_at_work_here_is_left_alone(ledger: Ledger, tmp_path: Path) -> None:
    """Its job writes to the rows that would be replaced."""
    path, there = filled(tmp_path / "other.db")
    merge(ledger, path)
    here = runs.find(ledger, there.uid)
    with Ledger.open(path) as other:
        for _ in range(3):
            job = jobs.create(other, "train", run=there.id, argument={}, log=there.folder / "log.txt")
            jobs.set_state(other, job, State.STOPPED)
    job = jobs.create(ledger, "train", run=here.id, argument={}, log=here.folder / "log.txt")
    job = jobs.sign_in(ledger, job, pid=os.getpid())
    jobs.set_state(ledger, job, State.RUNNING)
    with metrics.Writer(ledger, here.id) as log:
        log.log(50, {"train/loss": 1.0, "train/rate": 1.0})
        assert log.flush()
        merged = merge(ledger, path)
        log.log(51, {"train/loss": 1.0, "train/rate": 1.0})
    assert "at work here" in merged.conflicts[0].why
    assert metrics.curve(ledger, here.id, "train/loss").steps.tolist() == list(range(52))
    jobs.set_state(ledger, job, State.STOPPED)
    assert merge(ledger, path).updated == (there.uid,)


def test_of_two_baselines_for_one_comparison_the_later_stays(ledger: Ledger, tmp_path: Path) -> None:
    first, second = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
    steps: list[Step] = [(created, (second, 0)), (said, (second, "chosen", 1, 2))]
    other = written(tmp_path / "other.db", steps)
    with ledger.transaction() as connection:
        created(connection, first, 0)
        said(connection, first, "chosen", 1, 1)
    merge(ledger, other)
    assert ledger.rows("SELECT uid FROM run WHERE baseline") == [(second,)]


@pytest.mark.parametrize(("here", "there"), [("x", "yz"), ("xy", "z"), ("p", "qr"), ("st", "u")])
def test_of_two_unfinished_evaluations_that_with_more_answers_comes_unless_one_is_at_work_here(
    ledger: Ledger, tmp_path: Path, here: str, there: str
) -> None:
    uid = "aaaaaaaaaaaa"
    steps: list[Step] = [(created, (uid, 0)), *((evaluated, (uid, 2, answer, False)) for answer in there)]
    other = written(tmp_path / "other.db", steps)
    with ledger.transaction() as connection:
        created(connection, uid, 0)
        for answer in here:
            evaluated(connection, uid, 1, answer, False)
    job = jobs.create(ledger, "evaluate", run=None, argument={}, log=tmp_path / "log.txt")
    jobs.set_state(ledger, jobs.sign_in(ledger, job, pid=os.getpid()), State.RUNNING)
    merge(ledger, other)
    assert ledger.rows("SELECT uid FROM evaluation ORDER BY uid") == [(f"{uid}-1",), ("base-1",)]
    jobs.set_state(ledger, job, State.FINISHED)
    merge(ledger, other)
    more = 1 if len(here) > len(there) else 2
    assert ledger.rows("SELECT uid FROM evaluation ORDER BY uid") == [(f"{uid}-{more}",), (f"base-{more}",)]
    assert ledger.rows("SELECT DISTINCT answer FROM item ORDER BY 1") == [(each,) for each in max(here, there, key=len)]


def test_of_runs_with_one_name_the_younger_gets_its_machine_s(ledger: Ledger, tmp_path: Path) -> None:
    old, _ = filled(tmp_path / "old.db")
    young, run = filled(tmp_path / "young.db")
    with Ledger.open(young) as other, other.transaction() as connection:
        connection.execute("UPDATE job SET host = 'gpubox'")
    for path in (young, old):
        merged = merge(ledger, path)
    assert merged.renamed == {run.uid: "speech@gpubox"}
    assert runs.find(ledger, "speech@gpubox").uid == run.uid
    assert runs.find(ledger, "speech").uid != run.uid
    assert merge(ledger, young).updated == ()


def test_files_that_were_fetched_here_stay_the_run_s(ledger: Ledger, tmp_path: Path) -> None:
    path, there = filled(tmp_path / "other.db")
    merge(ledger, path)
    fetched = tmp_path / "fetched" / there.uid
    fetched.mkdir(parents=True)
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET folder = ? WHERE uid = ?", (str(fetched), there.uid))
    with Ledger.open(path) as other:
        events.add(other, "test", "more", run=there.id)
    assert merge(ledger, path).updated == (there.uid,)
    assert runs.find(ledger, there.uid).folder == fetched


def test_an_older_ledger_is_brought_up_to_date_in_a_copy(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as old:
        for statements in schema.MIGRATIONS[:2]:
            for statement in statements:
                old.execute(statement)
        old.execute(
            "INSERT INTO run (uid, name, created, folder, state) VALUES ('0123456789ab', 'old', 1, '/x', 'lost')"
        )
        old.execute("INSERT INTO run_document (run, profile) VALUES (1, '')")
        old.execute("INSERT INTO setting VALUES (1, 'method.rank', '8')")
        old.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        old.execute("PRAGMA user_version = 2")
    old.close()
    before = path.read_bytes()
    assert merge(ledger, path).added == ("0123456789ab",)
    assert runs.settings(ledger, runs.find(ledger, "old")) == {"method.rank": 8}
    assert path.read_bytes() == before
    assert [each.name for each in ledger.path.parent.iterdir() if "merging" in each.name] == []


def test_only_some_runs_come_with_what_they_are_compared_by(ledger: Ledger, tmp_path: Path) -> None:
    path, wanted = filled(tmp_path / "other.db")
    with Ledger.open(path) as other:
        runs.create(other, name="unwanted", runs_folder=tmp_path, profile="", settings={})
        for suite in ("s", "another"):
            base = evaluations.begin(
                other, run=None, model="b", model_name="base", suite=suite, suite_fingerprint=suite, conditions="c"
            )
            evaluations.finish(other, base, n=0, scores={})
    merged = merge(ledger, path, only=[wanted.uid])
    assert (merged.added, merged.evaluations) == ((wanted.uid,), 2)
    mine = evaluations.of_run(ledger, runs.find(ledger, wanted.uid).id)[0]
    assert [each.model_name for each in evaluations.counterparts(ledger, mine)] == ["base"]


def spoilt(path: Path) -> Path:
    filled(path)
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = os.urandom(4096 * 3)
    path.write_bytes(bytes(content))
    return path


def newer(path: Path) -> Path:
    filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    return path


def nothing(path: Path) -> Path:
    path.touch()
    return path


def text(path: Path) -> Path:
    path.write_text("step,loss\n1,2\n" * 1000)
    return path


def truncated(path: Path) -> Path:
    filled(path)
    path.write_bytes(path.read_bytes()[: 4096 * 5])
    return path


def unreadable(path: Path) -> Path:
    filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE run_document SET settings = '{'")
    connection.close()
    return path


@pytest.mark.parametrize(
    "make", [spoilt, newer, nothing, text, truncated, unreadable, lambda path: path, lambda path: path.parent]
)
def test_what_cannot_be_merged_is_refused_in_words_and_leaves_the_ledger_as_it_was(
    make: Callable[[Path], Path], ledger: Ledger, tmp_path: Path
) -> None:
    runs.create(ledger, name="mine", runs_folder=tmp_path, profile="", settings={})
    before = told(ledger)
    with pytest.raises(Problem) as refused:
        merge(ledger, make(tmp_path / "other.db"))
    assert "other.db" in refused.value.what or str(tmp_path) in refused.value.what
    assert refused.value.do
    assert told(ledger) == before
    assert whole(ledger)


def test_a_folder_is_called_one(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="is a folder"):
        merge(ledger, tmp_path)


def test_a_ledger_does_not_merge_with_itself(ledger: Ledger, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(ledger.path)
    with pytest.raises(Problem, match="the ledger itself"):
        merge(ledger, link)


def test_large_ledgers_come_in_portions_and_an_interrupted_merge_is_finished_by_the_next(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "other.db"
    uids = [filled(path, f"run-{number}")[1].uid for number in range(4)]
    monkeypatch.setattr(merging, "PORTION", 150)

    def stop(done: int, total: int) -> None:
        if done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(ledger, path, progress=stop)
    there = len(runs.listed(ledger))
    assert 0 < there < 4
    merged = merge(ledger, path)
    assert {*merged.added, *merged.kept} == set(uids)
    assert len(merged.kept) == there
    with Ledger.open(path) as other:
        assert told(ledger) == told(other)


def test_an_archive_on_read_only_media_is_merged(disk: Script, tmp_path: Path) -> None:
    said = disk(
        f"""
from engine.ledger import Ledger, copies, metrics, runs, summaries
from engine.ledger.merging import merge
with Ledger.open(disk / "ledger.db") as other:
    run = runs.create(other, name="speech", runs_folder=disk, profile="", settings={{}})
    with metrics.Writer(other, run.id) as log:
        log.log(1, {{"loss": 0.5}})
    copies.archive(other.path, disk / "archive.db")
read_only()
with Ledger.open(Path({str(tmp_path / "ledger.db")!r})) as ledger:
    print(len(merge(ledger, disk / "archive.db").added), len(merge(ledger, disk / "archive.db").kept))
    print(summaries.of_run(ledger, runs.find(ledger, "speech"))["loss"].last)
"""
    )
    assert said.splitlines() == ["1 1", "0.5"]


MERGE = """
import sys, time
from pathlib import Path
from engine.ledger import Ledger, merging
merging.PORTION = 1
ledger = Ledger.open(Path(sys.argv[1]))
merging.merge(ledger, Path(sys.argv[2]), progress=lambda done, total: print(done, flush=True))
"""


def test_a_merge_that_is_killed_is_finished_by_the_next(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    for number in range(30):
        filled(path, f"run-{number}")
    command = [sys.executable, "-c", MERGE, str(ledger.path), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for _ in range(3):
        process.stdout.readline()
    process.kill()
    process.communicate()
    there = len(runs.listed(ledger))
    assert there >= 3
    assert whole(ledger)
    assert len(merge(ledger, path).added) == 30 - there
    with Ledger.open(path) as other:
        assert told(ledger) == told(other)


def test_a_query_that_is_broken_off_does_not_keep_the_other_ledger(ledger: Ledger, tmp_path: Path) -> None:
    path, there = filled(tmp_path / "other.db")

    def broken() -> None:
        with ledger.transaction(beside=opening.uri(path)) as connection:
            for _ in connection.execute("SELECT * FROM other.packed"):
                raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose") as raised:
        broken()
    assert raised.tb is not None  # and with it the query
    assert merge(ledger, path).added == (there.uid,)


def test_a_disk_that_fills_leaves_the_ledger_as_it_was(disk: Script, tmp_path: Path) -> None:
    said = disk(
        f"""
import numpy as np
from engine.errors import Problem
from engine.ledger import Ledger, metrics, runs
from engine.ledger.merging import merge
other = Ledger.open(Path({str(tmp_path / "other.db")!r}))
run = runs.create(other, name="large", runs_folder=disk, profile="", settings={{}})
with metrics.Writer(other, run.id) as log:
    for step, value in enumerate(np.random.default_rng(1).random(200_000)):
        log.log(step, {{f"m/{{n}}": value * n for n in range(3)}})
with Ledger.open(disk / "ledger.db") as ledger:
    runs.create(ledger, name="mine", runs_folder=disk, profile="", settings={{}})
    try:
        merge(ledger, other.path)
    except Problem as problem:
        print(problem.code)
    print([run.name for run in runs.listed(ledger)], ledger.value("PRAGMA integrity_check"))
""",
        size=3000,
    )
    assert said.splitlines() == ["disk", "['mine'] ok"]


def test_a_ledger_is_merged_while_somebody_writes_to_it(ledger: Ledger, tmp_path: Path) -> None:
    path, there = filled(tmp_path / "other.db")
    with Ledger.open(path) as other, metrics.Writer(other, there.id) as log:
        for step in range(50, 400):
            log.log(step, {"train/loss": 1.0, "train/rate": 1.0})
            if step % 50 == 0:
                merge(ledger, path)
        assert log.flush()
        merge(ledger, path)
    assert metrics.curve(ledger, runs.find(ledger, there.uid).id, "train/loss").steps.tolist() == list(range(400))
