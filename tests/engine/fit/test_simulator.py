"""Who asks gets an answer, a reason, or is forgotten: with a real child, whose answers are not real."""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import psutil
import pytest

from engine.errors import Problem
from engine.fit import kept as keeping
from engine.fit import warm
from engine.fit.question import Answer, Machine, Phase, Question, Step
from engine.fit.simulator import Simulator
from engine.fit.warm import log_path

COMMAND = (sys.executable, str(Path(__file__).with_name("child.py")))
WAIT = 60.0


def asked(rows: int = 1, **config: object) -> Question:
    return Question(config, {}, {}, {}, Step(rows, 8, 8, False, True, False), Machine((7, 5)))


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    made = Simulator(command=COMMAND)
    yield made
    made.close()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def begun(path: Path) -> list[tuple[int, int]]:
    """Rows and process of each simulation that was begun."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(rows), int(process)) for rows, process in map(str.split, lines)]


def test_an_answer_is_simulated_once_and_then_known_to_every_process(simulator: Simulator, tmp_path: Path) -> None:
    question = asked(3, begun=str(tmp_path / "begun"))
    assert simulator.known(question) is None
    answer = simulator.ask(question, WAIT)
    assert answer == Answer(3, 6, {Phase.LOAD: (1, 2)}, answer.parts)
    assert simulator.known(question) == simulator.ask(question, WAIT) == answer
    assert len(begun(tmp_path / "begun")) == 1
    other = Simulator()
    assert other.known(question) == answer
    assert other.near(asked(5, begun=str(tmp_path / "begun"))) == {question.step: answer}
    assert other.known(asked(3)) is None
    other.close()


def test_what_is_kept_is_private_and_not_of_other_code(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    simulator.ask(asked(), WAIT)
    folder = keeping.Kept().folder
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    monkeypatch.setattr(keeping, "made_by", lambda: "another torch")
    assert keeping.Kept().answers(asked()) == {}


def test_what_is_kept_and_damaged_is_made_again(simulator: Simulator) -> None:
    answer = simulator.ask(asked(), WAIT)
    (file,) = keeping.Kept().folder.iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    other = Simulator(command=COMMAND)
    assert other.known(asked()) is None
    assert other.ask(asked(), WAIT) == answer
    assert keeping.Kept().answers(asked()) == {asked().step: answer}
    other.close()


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "FILES", 3)
    monkeypatch.setattr(keeping, "POINTS", 4)
    kept = keeping.Kept()
    answer = Answer(1, 1, {}, {})
    for rows in range(1, 7):
        kept.keep(asked(rows), answer)
    assert [step.rows for step in keeping.Kept().answers(asked())] == [3, 4, 5, 6]
    for model in "abcde":
        kept.keep(asked(model=model), answer)
    assert len(list(kept.folder.iterdir())) == 3
    assert keeping.Kept().answers(asked(model="e"))


def test_without_a_place_to_keep_them_answers_come_all_the_same(simulator: Simulator, home: Path) -> None:
    home.mkdir()
    (home / "cache").mkdir()
    (home / "cache" / "simulated").write_text("a file where a folder should be")
    assert simulator.ask(asked(2), WAIT).allocated == 2


@pytest.mark.parametrize(
    ("does", "what", "why", "code"),
    [
        ("refuse", "It has no layers", "num_hidden_layers is missing.", "model"),
        ("fail", "The simulation failed", "ValueError: a bug", "simulation"),
        ("die", "The simulation broke off", "It was ended by SIGKILL.", "simulation"),
        ("kill", "The simulation ended", "It was ended by SIGKILL.", "simulation"),
    ],
)
def test_what_cannot_be_answered_is_said_and_the_next_is_answered(
    simulator: Simulator, does: str, what: str, why: str, code: str
) -> None:
    with pytest.raises(Problem) as said:
        simulator.ask(asked(do=does), WAIT)
    assert (said.value.what, said.value.why, said.value.code) == (what, why, code)
    assert said.value.do
    assert simulator.ask(asked(4), WAIT).allocated == 4
    if does == "fail":
        assert "of several lines" in log_path().read_text()


def test_a_question_that_was_refused_is_not_simulated_again(simulator: Simulator, tmp_path: Path) -> None:
    question = asked(do="refuse", begun=str(tmp_path / "begun"))
    for _ in range(2):
        with pytest.raises(Problem, match="no layers"):
            simulator.ask(question, WAIT)
    assert len(begun(tmp_path / "begun")) == 1


def test_a_child_that_cannot_start_says_why(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_TEST_BROKEN", "1")
    with pytest.raises(Problem) as said:
        simulator.ask(asked(), WAIT)
    assert said.value.why == "ImportError: libtorch is not where it was"
    monkeypatch.delenv("WORKBENCH_TEST_BROKEN")
    assert simulator.ask(asked(), WAIT)


def test_a_child_that_goes_before_it_reads_says_so_and_the_next_starts(home: Path) -> None:
    ready = home.parent / "ready"
    deaf = "import os, sys, time; os.close(0); print('{\"number\": 0}', flush=True); open(sys.argv[1], 'w'); time.sleep(0.5)"
    simulator = Simulator(command=(sys.executable, "-c", deaf, str(ready)))
    simulator.warm()
    until(ready.exists)
    for _ in range(2):
        with pytest.raises(Problem, match="The simulation ended"):
            simulator.ask(asked(), WAIT)
    simulator.close()


def test_closing_tells_who_still_waits(simulator: Simulator, tmp_path: Path) -> None:
    started = tmp_path / "begun"
    said: SimpleQueue[str] = SimpleQueue()

    def wait() -> None:
        try:
            simulator.ask(asked(do="wait", until=str(tmp_path / "never"), begun=str(started)))
        except Problem as problem:
            said.put(problem.why)

    threading.Thread(target=wait, daemon=True).start()
    until(lambda: len(begun(started)) == 1)
    simulator.close()
    assert said.get(timeout=WAIT) == "The program is closing."
    with pytest.raises(Problem, match="was ended"):
        simulator.ask(asked(2))


def test_without_torch_it_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    simulator = Simulator()
    with pytest.raises(Problem, match="torch is not installed") as said:
        simulator.ask(asked(), WAIT)
    assert said.value.code == "torch"
    simulator.close()


def test_the_newest_question_goes_first_and_alike_ones_share_an_answer(simulator: Simulator, tmp_path: Path) -> None:
    order: SimpleQueue[int] = SimpleQueue()
    gate, started = tmp_path / "gate", tmp_path / "begun"

    def then(question: Question, outcome: Answer | Problem) -> None:
        order.put(question.step.rows)

    first = asked(1, do="wait", until=str(gate), begun=str(started))
    simulator.wanted(first, then)
    until(lambda: len(begun(started)) == 1)
    for rows in (2, 3, 4, 3):
        simulator.wanted(asked(rows, begun=str(started)), then)
    gate.touch()
    assert [order.get(timeout=WAIT) for _ in range(5)] == [1, 3, 3, 4, 2]
    assert [rows for rows, _ in begun(started)] == [1, 3, 4, 2]


def test_what_nobody_wants_any_more_is_ended_and_the_child_stays_warm(simulator: Simulator, tmp_path: Path) -> None:
    started, never = tmp_path / "begun", tmp_path / "never"
    answers: SimpleQueue[Answer | Problem] = SimpleQueue()
    cancel = simulator.wanted(
        asked(1, do="wait", until=str(never), begun=str(started)), lambda _, told: answers.put(told)
    )
    until(lambda: len(begun(started)) == 1)
    fork = psutil.Process(begun(started)[0][1])
    child = fork.ppid()
    cancel()
    until(lambda: not fork.is_running())  # though nothing else is wanted yet
    simulator.wanted(asked(2, begun=str(started)), lambda _, told: answers.put(told))
    told = answers.get(timeout=WAIT)
    assert isinstance(told, Answer)
    assert told.allocated == 2
    assert answers.empty()
    assert psutil.Process(child).is_running()


def test_a_wait_that_is_over_ends_what_was_waited_for(simulator: Simulator, tmp_path: Path) -> None:
    with pytest.raises(Problem, match="took more than 0 s"):
        simulator.ask(asked(do="wait", until=str(tmp_path / "never")), 0.2)
    assert simulator.ask(asked(2), WAIT).allocated == 2


def test_one_listener_that_fails_does_not_keep_answers_from_others(simulator: Simulator) -> None:
    def fails(question: Question, outcome: Answer | Problem) -> None:
        raise RuntimeError("this screen is gone")

    simulator.wanted(asked(), fails)
    assert simulator.ask(asked(2), WAIT).allocated == 2


def test_a_question_may_be_larger_than_a_pipe(simulator: Simulator) -> None:
    assert simulator.ask(asked(layer_types=["sliding_attention"] * 20_000), WAIT).allocated == 1


def test_closing_ends_the_child_and_its_fork_and_can_be_said_twice(simulator: Simulator, tmp_path: Path) -> None:
    started = tmp_path / "begun"
    simulator.wanted(asked(do="wait", until=str(tmp_path / "never"), begun=str(started)), lambda _, told: None)
    until(lambda: len(begun(started)) == 1)
    fork = psutil.Process(begun(started)[0][1])
    child = fork.parent()
    assert child
    assert (child.nice(), fork.nice()) == (10, 10)
    simulator.close()
    simulator.close()
    until(lambda: not fork.is_running() and not child.is_running())


def test_the_child_does_not_outlive_who_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    started = tmp_path / "begun"
    parent = os.fork()
    if parent == 0:
        try:
            question = asked(do="wait", until=str(tmp_path / "never"), begun=str(started))
            Simulator(command=COMMAND).wanted(question, lambda _, told: None)
            threading.Event().wait()
        finally:
            os._exit(1)
    until(lambda: len(begun(started)) == 1)
    fork = psutil.Process(begun(started)[0][1])
    child = fork.parent()
    os.kill(parent, 9)
    os.waitpid(parent, 0)
    until(lambda: not fork.is_running() and not (child and child.is_running()))


def test_the_child_is_told_no_secret_and_shown_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    given = warm._environment()
    assert "hf_secret" not in given.values()
    assert (given["CUDA_VISIBLE_DEVICES"], given["HF_HUB_OFFLINE"]) == ("", "1")


def test_what_broke_off_is_tried_again_when_it_is_asked_again(simulator: Simulator, tmp_path: Path) -> None:
    dies = asked(do="die", begun=str(tmp_path / "begun"))
    for _ in range(2):
        with pytest.raises(Problem, match="broke off"):
            simulator.ask(dies, WAIT)
    assert len(begun(tmp_path / "begun")) == 2
