"""Threads, processes and forks on one ledger: nothing locked, nothing lost, nothing piling up."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.errors import Problem
from engine.ledger import Ledger, events, lock, opening, runs
from engine.ledger.runs import Run


def descriptors() -> list[str]:
    """What files this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:  # the listing's own
            continue
    return found


def test_hundreds_of_threads_leave_a_handful_of_connections(ledger: Ledger, run: Run) -> None:
    def use(number: int) -> int:
        if number % 20 == 0:
            events.add(ledger, "test", str(number), run=run.id)
        ledger.version()
        return len(ledger.rows("SELECT * FROM event"))

    for start in range(0, 400, 20):
        threads = [threading.Thread(target=use, args=(number,)) for number in range(start, start + 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(events.of_run(ledger, run.id)) == 20
    # SQLite keeps the descriptors of closed connections for new ones: at most as many as there were threads at once.
    assert len([name for name in descriptors() if name == str(ledger.path)]) <= 22


def test_the_version_changes_with_every_commit_of_whomever_and_only_then(ledger: Ledger, run: Run) -> None:
    """Polled from changing threads, as a screen's workers do."""

    def polled() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(ledger.version).result()

    seen = polled()
    assert polled() == seen
    events.add(ledger, "test", "mine", run=run.id)
    own = polled()
    assert own != seen
    with Ledger.open(ledger.path) as other:
        events.add(other, "test", "another connection's", run=run.id)
        others = polled()
        assert others != own
    assert polled() == polled()


def test_a_transaction_stands_whole_or_not_at_all(ledger: Ledger, run: Run) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), ledger.transaction() as connection:
        events.insert(connection, "test", "first", run=run.id)
        assert len(events.of_run(ledger, run.id)) == 1, "a thread sees what it wrote"
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(events.of_run, ledger, run.id).result() == [], "others do not, yet"
        raise RuntimeError("on purpose")
    assert events.of_run(ledger, run.id) == []


def test_transactions_do_not_nest(ledger: Ledger, run: Run) -> None:
    with pytest.raises(RuntimeError, match="do not nest"), ledger.transaction():
        events.add(ledger, "test", "inside", run=run.id)
    events.add(ledger, "test", "after", run=run.id)
    assert [event.text for event in events.of_run(ledger, run.id)] == ["after"]


def test_who_writes_has_the_file_from_the_start_and_the_durability_that_was_asked_for(ledger: Ledger) -> None:
    for durable in (False, True, False):
        with ledger.transaction(durable=durable) as connection:
            assert connection.execute("PRAGMA synchronous").fetchone() == (2 if durable else 1,), "FULL or NORMAL"
            stranger = sqlite3.connect(ledger.path, timeout=0, isolation_level=None)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                stranger.execute("BEGIN IMMEDIATE")
            stranger.close()


def test_a_bug_stays_a_bug(ledger: Ledger) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        ledger.rows("SELECT * FROM nowhere")
    with pytest.raises(sqlite3.IntegrityError), ledger.transaction() as connection:
        connection.execute("INSERT INTO event (run, time, level, kind, text) VALUES (999, 0, '', '', '')")


WRITE = """
import os
import sys
from pathlib import Path
from engine.ledger import Ledger, events
with Ledger.open(Path(sys.argv[1])) as ledger:
    print("ready", flush=True)
    os.read(0, 1)
    for number in range(int(sys.argv[3])):
        events.add(ledger, "test", f"{sys.argv[4]} {number}", run=int(sys.argv[2]))
"""


def test_four_processes_write_at_once_and_none_is_ever_locked_out(ledger: Ledger, run: Run) -> None:
    command = [sys.executable, "-c", WRITE, str(ledger.path), str(run.id), "300"]
    gate, open_gate = os.pipe()
    writers = [subprocess.Popen([*command, name], stdin=gate, stdout=subprocess.PIPE) for name in "abcd"]
    for writer in writers:
        assert writer.stdout
        assert writer.stdout.readline() == b"ready\n"
    os.write(open_gate, b"g" * 4)  # all begin together
    assert [writer.wait(timeout=100) for writer in writers] == [0] * 4
    texts = [event.text for event in events.of_run(ledger, run.id, limit=10_000)]
    for name in "abcd":
        assert [text for text in texts if text.startswith(name)] == [f"{name} {number}" for number in range(300)]
    assert ledger.value("PRAGMA integrity_check") == "ok"


def test_who_holds_the_ledger_for_long_is_named(ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE", 0.05)
    monkeypatch.setattr(opening, "BUSY_TIMEOUT", 0.05)
    stopped = os.open(f"{ledger.path}.lock", os.O_RDWR)
    fcntl.flock(stopped, fcntl.LOCK_EX)
    with pytest.raises(Problem, match=r"held .*ledger\.db\.lock") as caught:
        events.add(ledger, "test", "waits", run=run.id)
    assert caught.value.code == "busy"
    os.close(stopped)

    events.add(ledger, "test", "goes on", run=run.id)
    with Ledger.open(ledger.path) as other:
        stranger = sqlite3.connect(ledger.path, isolation_level=None)  # a program that knows nothing of our lock
        stranger.execute("BEGIN IMMEDIATE")
        with pytest.raises(Problem, match="busy"):
            events.add(other, "test", "waits", run=run.id)
        stranger.close()
        events.add(other, "test", "goes on too", run=run.id)
    assert [event.text for event in events.of_run(ledger, run.id)] == ["goes on", "goes on too"]


def fork(work: Callable[[], object]) -> int:
    """Do something in a forked child; returns its pid."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def test_a_forked_child_writes_and_reads_by_connections_of_its_own(ledger: Ledger, run: Run) -> None:
    events.add(ledger, "test", "parent", run=run.id)
    ledger.version()

    def work() -> None:
        for number in range(50):
            events.add(ledger, "test", f"child {number}", run=run.id)
        ledger.version()
        assert len(events.of_run(ledger, run.id)) >= 51

    children = [fork(work) for _ in range(2)]
    for number in range(50):
        events.add(ledger, "test", f"parent {number}", run=run.id)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert len(events.of_run(ledger, run.id)) == 151
    assert ledger.value("PRAGMA integrity_check") == "ok"


def test_a_child_that_outlives_its_parent_does_not_keep_its_lock(ledger: Ledger, run: Run) -> None:
    """A parent killed in the middle of a transaction, with a forked child (a data loader's worker, say) left over."""
    told, tells = os.pipe()

    def parent() -> None:
        with Ledger.open(ledger.path) as own, own.transaction() as connection:
            events.insert(connection, "test", "never committed", run=run.id)
            child = fork(lambda: time.sleep(60))
            os.write(tells, f"{child}\n".encode())
            time.sleep(60)

    pid = fork(parent)
    child = int(os.read(told, 20))
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    try:
        events.add(ledger, "test", "after", run=run.id)
        assert [event.text for event in events.of_run(ledger, run.id)] == ["after"]
    finally:
        os.kill(child, 9)


def test_a_ledger_of_which_a_writer_was_killed_mid_transaction_is_whole(ledger: Ledger, run: Run) -> None:
    told, tells = os.pipe()

    def work() -> None:
        with ledger.transaction() as connection:
            for number in range(5000):  # enough to spill into the log before the commit
                events.insert(connection, "test", f"{number} " + "x" * 1000, run=run.id)
            os.write(tells, b"x")
            time.sleep(60)

    pid = fork(work)
    os.read(told, 1)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    events.add(ledger, "test", "after", run=run.id)
    assert [event.text for event in events.of_run(ledger, run.id)] == ["after"]
    assert ledger.value("PRAGMA integrity_check") == "ok"


def log_size(ledger: Ledger) -> int:
    return ledger.path.with_name("ledger.db-wal").stat().st_size


def burst(ledger: Ledger, run: Run, rows: int) -> None:
    with ledger.transaction() as connection:
        for _ in range(rows):
            events.insert(connection, "test", "x" * 4000, run=run.id)


def test_the_log_stays_small_and_shrinks_after_a_burst(ledger: Ledger, run: Run) -> None:
    burst(ledger, run, 10_000)
    assert log_size(ledger) > 2 * opening.WAL_LIMIT
    for _ in range(3):
        events.add(ledger, "test", "more", run=run.id)
    assert log_size(ledger) <= opening.WAL_LIMIT
    for _ in range(20):
        burst(ledger, run, 500)
    assert log_size(ledger) <= opening.WAL_LIMIT


def test_a_reader_that_holds_its_view_holds_nobody_up_and_the_log_shrinks_when_it_goes(
    ledger: Ledger, run: Run
) -> None:
    events.add(ledger, "test", "before", run=run.id)
    stranger = sqlite3.connect(ledger.path, isolation_level=None)
    stranger.execute("BEGIN")
    assert stranger.execute("SELECT count(*) FROM event").fetchone() == (1,)
    for _ in range(20):
        burst(ledger, run, 500)
    assert log_size(ledger) > opening.WAL_LIMIT, "its view is kept"
    assert stranger.execute("SELECT count(*) FROM event").fetchone() == (1,)
    stranger.close()
    for _ in range(3):
        burst(ledger, run, 5)
    assert log_size(ledger) <= opening.WAL_LIMIT


def test_one_state_for_several_queries(ledger: Ledger, run: Run) -> None:
    with ledger.reading() as connection:
        count = "SELECT count(*) FROM event"
        before = connection.execute(count).fetchone()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(events.add, ledger, "test", "meanwhile", run=run.id).result()
        assert connection.execute(count).fetchone() == before == (0,)
    assert len(events.of_run(ledger, run.id)) == 1


def test_who_closes_moves_everything_into_the_file_though_others_go_on(
    ledger: Ledger, run: Run, tmp_path: Path
) -> None:
    with Ledger.open(ledger.path) as other:
        other.version()
        events.add(ledger, "test", "last words", run=run.id)
        ledger.close()
        shutil.copyfile(ledger.path, tmp_path / "copy.db")
        assert len(events.of_run(other, run.id)) == 1
    with Ledger.open(tmp_path / "copy.db") as copy:
        assert [event.text for event in events.of_run(copy, run.id)] == ["last words"]


def test_the_last_to_leave_leaves_one_file_even_if_it_has_only_read(ledger: Ledger, run: Run) -> None:
    reader = Ledger.open(ledger.path)
    assert len(runs.listed(reader)) == 1
    ledger.close()
    names = ["ledger.db", "ledger.db.lock"]
    assert sorted(file.name for file in ledger.path.parent.iterdir()) != names
    reader.close()
    assert sorted(file.name for file in ledger.path.parent.iterdir()) == names
