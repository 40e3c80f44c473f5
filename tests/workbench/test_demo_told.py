"""How the demonstration is told: in the application, on the command line, and when it goes wrong.

Jobs are rows that this process signs in to; what they would do is tested by the engine's own tests and by `make demo`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from engine.errors import Problem
from engine.evaluate.answers import Said
from engine.ledger import Ledger, jobs, runs
from engine.ledger.jobs import Job
from engine.ledger.runs import Run
from engine.ledger.states import State
from screens.session import Session
from tests.evaluated import answered, compared_run, decided, decisions
from tests.screens.driving import last_line, screen, until
from workbench import cli
from workbench.cli import demo
from workbench.demo import story
from workbench.demo.live import DemoApp
from workbench.demo.story import Stage


@pytest.fixture
def tuned(ledger: Ledger, tmp_path: Path) -> Run:
    """A run that is better on decisions, and that forgot two answers of a retention suite."""
    run = compared_run(ledger, tmp_path, "demo-speech")
    kept = decisions(30, "retention-demo")
    answered(ledger, None, kept, decided(30, []))
    answered(ledger, run, kept, [*decided(28, []), *(Said("hoarse", 2, 1.0, {}) for _ in range(2))])
    return run


def job_of(ledger: Ledger, run: Run, kind: jobs.Kind) -> Job:
    """A job at work that is this very process."""
    job = jobs.create(ledger, kind, run=run.id, argument={}, log=run.folder / "log.txt")
    job = jobs.sign_in(ledger, job, pid=os.getpid())
    jobs.set_state(ledger, job, State.RUNNING)
    return job


def tell(monkeypatch: pytest.MonkeyPatch, *told: Stage, ends: Problem | None = None) -> None:
    """Let the demonstration be these stages."""

    def stages(ledger: Ledger, runs_folder: Path) -> Iterator[Stage]:
        yield from told
        if ends:
            raise ends

    monkeypatch.setattr(story, "stages", stages)


def app_on(ledger: Ledger, run: Run) -> DemoApp:
    """The application on the demonstration, not yet started."""
    return DemoApp(Session(ledger, run.folder.parent))


async def test_monitor_follows_the_live_run_and_compare_ends_it(
    ledger: Ledger, tuned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(ledger, tuned, "evaluate")
    jobs.beat(ledger, job, done=12, total=160, doing="test: demo-base")
    tell(monkeypatch, Stage("Asking both the same questions", tuned, job))
    app = app_on(ledger, tuned)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "[4 Monitor]" in screen(pilot) and "demo-speech" in screen(pilot))
        await until(pilot, lambda: "12/160" in last_line(pilot))
        jobs.set_state(ledger, job, State.FINISHED)
        await until(pilot, lambda: "[5 Compare]" in screen(pilot) and "better" in screen(pilot))
    assert app.over and app.problem is None


async def test_who_looks_at_something_else_is_not_pulled_away(
    ledger: Ledger, tuned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(ledger, tuned, "evaluate")
    tell(monkeypatch, Stage("Asking", tuned, job))
    async with app_on(ledger, tuned).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "demo-speech" in screen(pilot))
        await pilot.press("1")
        await until(pilot, lambda: "[1 Runs]" in screen(pilot))
        jobs.set_state(ledger, job, State.FINISHED)
        await until(pilot, lambda: "The demonstration is over" in last_line(pilot))
        assert "[1 Runs]" in screen(pilot)


async def test_a_failure_is_said_on_the_last_line_and_handed_on(
    ledger: Ledger, tuned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(monkeypatch, ends=Problem("The demonstration cannot go on", "The disk is full.", "Free some space."))
    app = app_on(ledger, tuned)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "The demonstration cannot go on. The disk is full" in last_line(pilot))
    assert app.problem is not None and not app.over


async def test_leaving_leaves_the_job_to_itself(ledger: Ledger, tuned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(ledger, tuned, "evaluate")
    tell(monkeypatch, Stage("Asking", tuned, job))
    app = app_on(ledger, tuned)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.at is not None)
        await pilot.press("ctrl+q")
    assert jobs.get(ledger, job.uid).state is State.RUNNING
    assert not app.over


# Without a terminal


def test_the_table_says_what_rose_and_what_was_forgotten(
    ledger: Ledger, tuned: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(ledger, tuned, "evaluate")
    jobs.set_state(ledger, job, State.FINISHED)
    tell(monkeypatch, Stage("Asking both the same questions", tuned, job))
    assert cli.main(["demo", "--headless"]) == 0
    said = capsys.readouterr()
    assert "better" in said.out and "retention-demo" in said.out
    assert "Forgotten, 2 of 2" in said.out and "hoarse" in said.out
    assert "1. Asking both the same questions" in said.err
    assert "workbench compare demo-speech" in said.err


def test_the_comparison_is_had_as_json(
    ledger: Ledger, tuned: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(ledger, tuned, "evaluate")
    jobs.set_state(ledger, job, State.FINISHED)
    tell(monkeypatch, Stage("Asking", tuned, job))
    assert cli.main(["demo", "--json"]) == 0
    rows = orjson.loads(capsys.readouterr().out)["rows"]
    assert {row["suite"] for row in rows} == {"pubmedqa", "retention", "retention-demo"}


def test_a_run_that_failed_ends_it_with_its_message_and_log(
    ledger: Ledger, tuned: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(ledger, tuned, "train")
    jobs.set_state(ledger, job, State.FAILED, cause="disk", message="The disk is full")
    tell(monkeypatch, Stage("Fine-tuning", runs.find(ledger, tuned.uid), job))
    assert cli.main(["demo", "--headless"]) == 2
    said = capsys.readouterr()
    assert said.err.count("The disk is full") == 1
    assert str(job.log) in said.err and "workbench demo" in said.err
    assert not said.out


def test_ctrl_c_detaches_and_says_how_to_go_on(
    ledger: Ledger, tuned: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(ledger, tuned, "evaluate")
    tell(monkeypatch, Stage("Asking", tuned, job))

    def interrupted(*_: object) -> Job:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "wait", interrupted)
    assert cli.main(["demo", "--headless"]) == 130
    assert "goes on" in capsys.readouterr().err
    assert jobs.get(ledger, job.uid).state is State.RUNNING
