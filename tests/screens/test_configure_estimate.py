"""Configure's estimate: the verdict at every key, simulated figures in place of formulas, the ladder, what was learned from past runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from engine.fit.ladder import Rung
from engine.fit.simulator import Simulator
from engine.ledger import Ledger, jobs, runs
from engine.ledger.states import LIVE, State
from engine.profile import flat
from engine.profile_file import read
from screens.session import Room, Session
from screens.widgets.last_line import LastLine
from screens.widgets.table import Table
from tests.screens import configuring
from tests.screens.configuring import (
    RTX,
    T4,
    Stage,
    enter_wrong,
    go_to,
    on_gpus,
    opened,
    screen,
    seven,
    text,
    type_over,
)
from tests.screens.driving import last_line, until

CHILD = Path(__file__).with_name("simulating.py")


@pytest.fixture
def here(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with data and a profile."""
    monkeypatch.chdir(configuring.working_folder(tmp_path / "here", tiny_base))
    monkeypatch.setenv("PYTHONPATH", str(CHILD.parents[2]))
    return tmp_path / "here"


@pytest.fixture
def session(ledger: Ledger, tmp_path: Path) -> Session:
    return on_gpus(Session(ledger, tmp_path / "runs"), RTX)


@contextmanager
def simulating(session: Session, *said: object) -> Iterator[Session]:
    """The session with a simulator whose child answers as the arguments say."""
    with closing(Simulator(command=(sys.executable, str(CHILD), *map(str, said)))) as simulator:
        yield replace(session, simulator=lambda: simulator)


async def test_simulated_figures_take_the_place_of_formulas_and_keys_do_not_wait_for_them(
    session: Session, here: Path, tmp_path: Path
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    with simulating(session, hold) as live:
        async with Stage(live).run_test(size=(160, 48)) as pilot:
            await opened(pilot, seven(here, **{"training.micro_batch": 1}))
            await until(pilot, lambda: "estimated, being simulated" in text(pilot, "#beside"))
            assert "evaluation" not in text(pilot, "#beside")
            before = screen(pilot)._judgement.best.predicted_allocated_mib
            await go_to(pilot, "method.rank")
            await pilot.press("enter")
            await type_over(pilot, "64")  # another question, while the child is at the first
            await until(pilot, lambda: screen(pilot)._judgement.profile.method.rank == 64)
            await pilot.press("escape")
            hold.unlink()
            await until(pilot, lambda: "simulated" in text(pilot, "#beside").splitlines())
            await until(pilot, lambda: "being simulated" not in text(pilot, "#beside"))
            assert screen(pilot)._judgement.best.predicted_allocated_mib == pytest.approx(1.5 * before)
            assert [line.split()[0] for line in text(pilot, "#beside").splitlines() if "━" in line] == [
                "load",
                "backward",
            ]


async def test_what_cannot_be_simulated_stays_estimated_and_says_why(
    session: Session, here: Path, tmp_path: Path
) -> None:
    with simulating(session, tmp_path / "no", "refuse") as live:
        async with Stage(live).run_test(size=(80, 24)) as pilot:
            await opened(pilot, seven(here))
            await until(pilot, lambda: "estimated, not simulated: It has no layers" in text(pilot, "#beside"))
            assert text(pilot, "#verdict").startswith("✓ fits gpu0 RTX 4090")


async def test_an_architecture_that_formulas_do_not_know_is_judged_once_it_is_simulated(
    session: Session, here: Path, tmp_path: Path, tiny_base: Path
) -> None:
    base = here / "strange"
    base.mkdir()
    for file in tiny_base.iterdir():
        (base / file.name).write_bytes(file.read_bytes().replace(b'"llama"', b'"mamba2"'))
    profile = seven(here, **{"model.base": str(base), "template.max_tokens": 64, "template.name": "chat"})
    hold = tmp_path / "hold"
    hold.touch()
    with simulating(session, hold) as live:
        async with Stage(live).run_test(size=(80, 24)) as pilot:
            await opened(pilot, profile, "simulating it")
            hold.unlink()
            await until(pilot, lambda: text(pilot, "#verdict").startswith("✓ fits gpu0 RTX 4090"))
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, profile, "cannot be estimated")


async def test_rungs_are_taken_together_and_taken_back_together(session: Session, here: Path) -> None:
    tight = on_gpus(session, replace(RTX, free_mib=7_000.0))
    path = seven(here, **{"method.rank": 256})
    async with Stage(tight).run_test(size=(80, 24)) as pilot:
        await opened(pilot, path, "does not fit gpu0 RTX 4090")
        before = screen(pilot).draft.text
        await pilot.press("L")
        ladder: Table[Rung] = screen(pilot).query_one("#ladder", Table)
        await until(pilot, lambda: ladder.has_focus)
        assert len(ladder.rows) > 1 and [rung.fits for rung in ladder.rows][-1]
        wanted = {key: value for rung in ladder.rows for key, value in rung.change.items()}
        await pilot.press("G")
        await until(pilot, lambda: f"and the {len(ladder.rows) - 1} above it" in text(pilot, "#about"))
        await pilot.press("enter")
        await until(pilot, lambda: "Took" in last_line(pilot))
        values = flat(screen(pilot).draft.profile())
        assert {key: values[key] for key in wanted} == wanted
        await until(pilot, lambda: text(pilot, "#verdict").startswith("✓ fits gpu0"))
        await pilot.press("ctrl+u")
        await until(pilot, lambda: screen(pilot).draft.text == before)
        await until(pilot, lambda: "does not fit" in text(pilot, "#verdict"))
        first = ladder.rows[0]
        await pilot.press("escape")
        await until(pilot, lambda: screen(pilot).query_one("#form").has_focus)
        await pilot.press("e")
        await until(pilot, lambda: screen(pilot).draft.changed)
        assert {key: flat(screen(pilot).draft.profile())[key] for key in first.change} == dict(first.change)


async def test_the_verdict_follows_what_is_typed_and_what_is_free(session: Session, here: Path) -> None:
    free = [24_000.0]
    live = replace(session, gpus=lambda: (replace(RTX, free_mib=free[0]), replace(T4, free_mib=2_000.0)))
    async with Stage(live).run_test(size=(80, 24)) as pilot:
        await opened(pilot, seven(here, **{"template.max_tokens": 512}))
        assert text(pilot, "#verdict").startswith("✓ fits gpu0 RTX 4090")
        assert text(pilot, "#beside").splitlines()[1].startswith("gpu1 T4") and "✗" in text(pilot, "#beside")
        before = text(pilot, "#beside")
        await go_to(pilot, "method.rank")
        await pilot.press("enter")
        await type_over(pilot, "1024")
        await until(pilot, lambda: text(pilot, "#beside") != before)
        assert "method.rank" not in screen(pilot).draft.differences()
        await pilot.press("escape")
        await until(pilot, lambda: text(pilot, "#beside") == before)
        free[0] = 3_000.0
        await until(pilot, lambda: text(pilot, "#verdict").startswith("✗ does not fit gpu0 RTX 4090"))


async def test_runs_like_it_that_failed_here_are_told_first(session: Session, here: Path) -> None:
    path = seven(here, **{"training.micro_batch": 4})
    settings = {**flat(read(path)), "training.micro_batch": 2, "template.max_tokens": 512}
    run = runs.create(session.ledger, name="earlier", runs_folder=here, profile="", settings=settings)
    runs.set_conditions(session.ledger, run, gpu="RTX 4090", comparable="")
    job = jobs.create(session.ledger, "train", run=run.id, argument={}, log=here / "log.txt")
    jobs.set_state(session.ledger, job, State.FAILED, cause="OOM at 12")
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, path)
        told = next(line for line in text(pilot, "#beside").splitlines() if line.startswith("!"))
        assert told.startswith("! a run like this failed here: OOM at 12, earlier")


async def test_a_disk_that_is_too_full_is_the_verdict(session: Session, here: Path) -> None:
    full = replace(session, room=lambda _: Room(1000, 0, 1))
    async with Stage(full).run_test(size=(80, 24)) as pilot:
        await opened(pilot, seven(here), "the disk is too full")


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_a_walk_through_the_form_that_breaks_it_takes_a_rung_and_starts_a_run(
    session: Session, here: Path, size: tuple[int, int]
) -> None:
    stage = Stage(replace(session, gpus=lambda: ()))
    async with stage.run_test(size=size) as pilot:
        await opened(pilot, here / "tiny.toml")
        table: Table[object] = screen(pilot).query_one("#form", Table)
        for section in ("model", "hardware", "evaluation"):  # they are closed at first
            await go_to(pilot, section)
            count = len(table.rows)
            await pilot.press("enter")
            await until(pilot, lambda before=count: len(table.rows) > before)  # type: ignore[misc]
        await pilot.press("g", *["j"] * 12, "G", "k")
        for key, wrong in (
            ("method.rank", "-3"),
            ("training.learning_rate", "fast"),
            ("training.effective_batch", "999999999999"),
        ):
            await go_to(pilot, key)
            await pilot.press("enter")
            await type_over(pilot, wrong)
            await until(pilot, lambda: "✗" in text(pilot, "#about"))
            await enter_wrong(pilot)
            await pilot.press("escape")
            await until(pilot, lambda: not screen(pilot).query_one(LastLine).busy)
        assert not screen(pilot).draft.changed
        screen(pilot)._change(screen(pilot).draft.with_value("model.base", "nobody/has-this"))
        await until(pilot, lambda: "✗" in text(pilot, "#verdict") and "nobody/has-this" in text(pilot, "#verdict"))
        await pilot.press("ctrl+u")
        await until(pilot, lambda: "runs on the CPU" in text(pilot, "#verdict"))
        await pilot.press("z")
        await until(pilot, lambda: "estimated" in text(pilot, "#estimate"))
        assert "phase" not in text(pilot, "#estimate")
        await pilot.press("z", "e")
        await until(pilot, lambda: screen(pilot).draft.changed)
        await pilot.press("R")
        await type_over(pilot, "walked")
        await pilot.press("enter")
        await until(pilot, lambda: stage.watched)
        (run,) = runs.listed(session.ledger)
        assert (run.uid, run.name) == (stage.watched[0], "walked")
        for _ in range(6000):  # a cold child on a machine that may be busy
            if runs.find(session.ledger, run.uid).state not in LIVE:
                break
            await pilot.pause(0.02)
        assert runs.find(session.ledger, run.uid).state is State.FINISHED
