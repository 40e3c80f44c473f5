"""Curves of several runs in one chart: over steps, tokens, time and epochs, with a legend that reads values out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot

from engine.ledger import Ledger, jobs, metrics, runs
from engine.ledger.runs import Run
from engine.ledger.states import State
from screens.runs.overlaid import Reading, time_at_work
from screens.runs.overlay import OverlayScreen
from screens.session import Session
from screens.widgets.chart import Chart
from screens.widgets.scales import EPOCH, STEP, TIME, TOKENS, span
from tests.screens.driving import screen, until
from tests.screens.example import Example, settings
from workbench.app import WorkbenchApp


def trained(
    ledger: Ledger, folder: Path, name: str, losses: list[float], *, tokens: float = 100.0, rank: int = 8
) -> Run:
    run = runs.create(ledger, name=name, runs_folder=folder, profile="", settings=settings(method__rank=rank))
    with metrics.Writer(ledger, run.id) as writer:
        for step, loss in enumerate(losses, 1):
            writer.log(step, {"train/loss": loss, "train/tokens": tokens * step, "train/epoch": step / len(losses)})
    return run


async def opened(pilot: Pilot[None], chosen: list[Run], session: Session) -> OverlayScreen:
    over = OverlayScreen(session, chosen)
    pilot.app.push_screen(over)
    await until(pilot, lambda: over.query("#legend") and over._legend.rows)
    return over


def legend(pilot: Pilot[None]) -> list[str]:
    return [line.strip() for line in screen(pilot).splitlines() if "━━" in line]


@pytest.fixture
def two(ledger: Ledger, tmp_path: Path) -> tuple[Session, list[Run]]:
    short = trained(ledger, tmp_path, "short", [3.0, 2.0, 1.0, float("nan")], tokens=500.0, rank=16)
    long = trained(ledger, tmp_path, "long", [4.0 - 0.1 * step for step in range(20)])
    return Session(ledger, tmp_path), [short, long]


async def test_each_run_has_a_line_with_its_figures_and_what_sets_it_apart(two: tuple[Session, list[Run]]) -> None:
    session, chosen = two
    async with WorkbenchApp(session).run_test(size=(100, 30)) as pilot:
        over = await opened(pilot, chosen, session)
        assert over._chart.title == "train/loss"
        first, second = legend(pilot)
        assert first.split()[1:] == ["━━", "short", "○", "NaN", "1.000", "3", "1", "rank", "16"]
        assert second.split() == ["━━", "long", "○", "2.100", "2.100", "20", "rank", "8"]


async def test_where_nothing_is_counted_it_says_what_to_press(ledger: Ledger, tmp_path: Path) -> None:
    run = runs.create(ledger, name="imported", runs_folder=tmp_path, profile="", settings=settings())
    with metrics.Writer(ledger, run.id) as writer:
        writer.log(1, {"train/loss": 2.0})
    async with WorkbenchApp(Session(ledger, tmp_path)).run_test(size=(80, 24)) as pilot:
        await opened(pilot, [run], Session(ledger, tmp_path))
        await pilot.press("underscore")
        await until(pilot, lambda: "none of these runs counts tokens: _ draws over something else" in screen(pilot))
        await pilot.press("underscore")
        await until(pilot, lambda: "━━" in screen(pilot) and "none of these" not in screen(pilot))


async def test_names_are_whole_where_there_is_room_and_else_keep_their_end(ledger: Ledger, tmp_path: Path) -> None:
    name = "pubmedqa-learning_rate-and-rank-298"
    run = trained(ledger, tmp_path, name, [2.0, 1.0])
    async with WorkbenchApp(Session(ledger, tmp_path)).run_test(size=(80, 24)) as pilot:
        await opened(pilot, [run], Session(ledger, tmp_path))
        assert "…k-298" in legend(pilot)[0]
        await pilot.resize_terminal(160, 48)
        await until(pilot, lambda: name in legend(pilot)[0])


async def test_the_cursor_reads_every_run_at_the_same_place(two: tuple[Session, list[Run]]) -> None:
    session, chosen = two
    async with WorkbenchApp(session).run_test(size=(100, 30)) as pilot:
        await opened(pilot, chosen, session)
        await pilot.press(">", ">")
        await until(pilot, lambda: "train/loss at step" in screen(pilot) and " at " in screen(pilot).split("best")[0])
        await pilot.press("<", "<", "<", "<")
        chart = pilot.app.screen.query_one(Chart)
        while chart.cursor is None or chart.cursor > 3:
            await pilot.press("<")
        await until(pilot, lambda: "train/loss at step" in screen(pilot))
        place = int(chart.cursor) - 1
        assert legend(pilot)[0].split()[4] == f"{[3.0, 2.0, 1.0][place]:.3f}"
        assert legend(pilot)[1].split()[3] == f"{4.0 - 0.1 * place:.3f}"


async def test_axes_count_steps_tokens_time_and_epochs(two: tuple[Session, list[Run]]) -> None:
    session, chosen = two
    async with WorkbenchApp(session).run_test(size=(100, 30)) as pilot:
        await opened(pilot, chosen, session)
        for words in ("over tokens", "over time", "over epoch"):
            await pilot.press("_")
            await until(pilot, lambda words=words: words in screen(pilot))
        await pilot.press("_")
        await until(pilot, lambda: "over" not in screen(pilot).splitlines()[1])


def test_where_points_lie_on_each_axis(two: tuple[Session, list[Run]]) -> None:
    session, chosen = two
    reading = Reading(session.ledger, chosen)
    places = {}
    for scale in (STEP, TOKENS, EPOCH, TIME):
        line = reading.read("train/loss", scale).lines[0]
        assert line.series is not None
        places[scale.name] = line.series.across.tolist()
    assert places["step"] == [1, 2, 3, 4]
    assert places["tokens"] == [500, 1000, 1500, 2000]
    assert places["epoch"] == [0.25, 0.5, 0.75, 1.0]
    assert places["time"][0] >= 0 and places["time"] == sorted(places["time"])


def test_a_run_that_does_not_count_tokens_says_so(ledger: Ledger, tmp_path: Path) -> None:
    run = runs.create(ledger, name="foreign", runs_folder=tmp_path, profile="", settings={})
    with metrics.Writer(ledger, run.id) as writer:
        writer.log(1, {"train/loss": 1.0})
    reading = Reading(ledger, [run])
    assert reading.read("train/loss", TOKENS).lines[0].missing == "tokens not counted"
    assert reading.read("eval/f1", STEP).lines[0].missing == "no such metric"
    assert reading.read("train/loss", STEP).lines[0].series is not None


def test_a_gap_in_what_was_counted_is_bridged(ledger: Ledger, tmp_path: Path) -> None:
    run = runs.create(ledger, name="gap", runs_folder=tmp_path, profile="", settings={})
    with metrics.Writer(ledger, run.id) as log:
        for step, tokens in ((1, 10.0), (2, math.nan), (3, 30.0)):
            log.log(step, {"train/loss": 1.0, "train/tokens": tokens})
    (told,) = Reading(ledger, [run]).read("train/loss", TOKENS).lines
    assert told.series is not None and told.series.across.tolist() == [10.0, 20.0, 30.0]


def test_time_at_work_leaves_out_what_lies_between_two_jobs(two: tuple[Session, list[Run]]) -> None:
    session, (run, _) = two
    for began, ended in ((100.0, 150.0), (1000.0, 1060.0)):
        job = jobs.create(session.ledger, "train", run=run.id, argument={}, log=run.folder / "log")
        jobs.set_state(session.ledger, job, State.STOPPED)
        with session.ledger.transaction() as connection:
            connection.execute("UPDATE job SET started = ?, ended = ? WHERE id = ?", (began, ended, job.id))
    times = np.array([110.0, 150.0, 1000.0, 1050.0, 1040.0])
    worked = jobs.of_run(session.ledger, run.id)
    assert time_at_work(times, worked).tolist() == [10, 50, 50, 100, 100], (
        "nor does a clock that steps back turn it round"
    )


def test_a_live_runs_curve_grows_and_what_has_ended_is_not_read_again(four: Example) -> None:
    ledger = four.session.ledger
    live, done = four.runs["pubmedqa-lora-16"], four.runs["pubmedqa-lora-64"]
    reading = Reading(ledger, [live, done])
    before = reading.read("train/loss", STEP).lines
    with metrics.Writer(ledger, live.id) as writer:
        writer.log(1000, {"train/loss": 0.5})
    after = reading.read("train/loss", STEP).lines
    assert after[0].series and after[0].series.x[-1] == 1000 and after[0].best == 0.5
    assert after[1].series is before[1].series


def test_a_point_finds_its_place_once_the_tokens_up_to_it_are_known(four: Example) -> None:
    run = four.runs["pubmedqa-lora-16"]
    reading = Reading(four.session.ledger, [run])
    with metrics.Writer(four.session.ledger, run.id) as writer:
        writer.log(1000, {"validation/loss": 0.5})
    early = reading.read("validation/loss", TOKENS).lines[0].series
    assert early is not None and early.across[-1] == 52 * 1400
    with metrics.Writer(four.session.ledger, run.id) as writer:
        writer.log(1000, {"train/tokens": 1_400_000.0})
    late = reading.read("validation/loss", TOKENS).lines[0].series
    assert late is not None and late.across[-1] == 1_400_000


async def test_another_metric_smoothing_logarithm_and_zoom(four: Example) -> None:
    chosen = [four.runs["pubmedqa-lora-16"], four.runs["pubmedqa-lora-64"]]
    async with WorkbenchApp(four.session).run_test(size=(100, 30)) as pilot:
        over = await opened(pilot, chosen, four.session)
        assert over._chart.title == "validation/loss"
        await pilot.press("]")
        await until(pilot, lambda: over._chart.title == "train/loss")
        await pilot.press("[", "[")
        await until(
            pilot,
            lambda: (
                (over._chart.title.startswith("train/") and over._chart.title != "train/loss")
                or "time/" in over._chart.title
            ),
        )
        await pilot.press("s", "|")
        await until(pilot, lambda: "smooth  log" in screen(pilot))
        await pilot.press("z")
        await until(pilot, lambda: not legend(pilot) and f"{chosen[0].name}: " in screen(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: len(legend(pilot)) == 2)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(pilot.app.screen, OverlayScreen))


async def test_the_run_under_the_cursor_is_drawn_on_top(two: tuple[Session, list[Run]]) -> None:
    session, chosen = two
    async with WorkbenchApp(session).run_test(size=(100, 30)) as pilot:
        over = await opened(pilot, chosen, session)
        assert over._chart._front is over._snapshot.lines[0].series
        await pilot.press("j")
        await until(pilot, lambda: over._chart._front is over._snapshot.lines[1].series)


async def test_d_shows_in_what_they_differ_and_1_goes_back_to_the_table(two: tuple[Session, list[Run]]) -> None:
    session, chosen = two
    async with WorkbenchApp(session).run_test(size=(100, 30)) as pilot:
        await opened(pilot, chosen, session)
        await pilot.press("d")
        await until(pilot, lambda: "method.rank" in screen(pilot))
        await pilot.press("1")
        await until(pilot, lambda: type(pilot.app.screen).__name__ == "RunsScreen")


async def test_losses_that_may_not_be_compared_are_warned_of(four: Example) -> None:
    alike = [four.runs["pubmedqa-lora-16"], four.runs["pubmedqa-lora-64"]]
    async with WorkbenchApp(four.session).run_test(size=(100, 30)) as pilot:
        over = await opened(pilot, alike, four.session)
        assert "say little of each other" not in screen(pilot)
        over.dismiss()
        await opened(pilot, [*alike, four.runs["speech-dora"]], four.session)
        await until(pilot, lambda: "! Other validation rows or another objective" in screen(pilot))
        await pilot.press("d")
        await until(pilot, lambda: "settings differ" in screen(pilot))
        assert "! Other validation rows or another objective" in screen(pilot)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0"), (45, "45s"), (90, "1m30s"), (3600, "1h"), (9000, "2h30m"), (129_600, "1d12h"), (86_460, "1d0h")],
)
def test_a_time_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize("last", [0.3, 7.0, 90.0, 3000.0, 40_000.0, 3e6])
def test_an_axis_of_time_has_ticks_that_people_can_add_up(last: float) -> None:
    axis = TIME.ticks(last, 6)
    assert axis.low == 0 and axis.high >= last
    assert 2 <= len(axis.ticks) <= 9
    assert len(set(TIME.labels(axis))) == len(axis.ticks)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_picture(four: Example, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    chosen = [four.runs[name] for name in ("pubmedqa-lora-16", "pubmedqa-lora-64", "speech-dora")]

    async def ready(pilot: Pilot[None]) -> None:
        over = await opened(pilot, chosen, four.session)
        await pilot.press("]", "j")
        await until(
            pilot, lambda: over._chart._front is over._snapshot.lines[1].series and "train/loss" in screen(pilot)
        )

    assert snap_compare(WorkbenchApp(four.session), terminal_size=size, run_before=ready)
