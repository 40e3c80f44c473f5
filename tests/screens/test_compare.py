"""The Compare screen: the verdict, what is behind it, and evaluations started, watched and stopped from it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine import machine
from engine.evaluate.compare import ComparisonRow, compare
from engine.evaluate.suites import Suite, SuiteItem
from engine.ledger import Ledger, jobs
from engine.ledger.states import State
from screens.compare import forest
from screens.compare.items import ItemsScreen
from screens.compare.screen import CompareScreen
from screens.messages import CompareRuns
from screens.session import Session
from screens.widgets.filter_line import FilterLine
from screens.widgets.last_line import LastLine
from screens.widgets.table import Table
from tests.evaluated import Said, answered, compared_run, decided, decisions, finished_run
from tests.screens.driving import last_line, line, screen, until, widget
from workbench.app import WorkbenchApp

SIZES = [(80, 24), (120, 40), (160, 48)]


def app_of(ledger: Ledger, folder: Path) -> WorkbenchApp:
    return WorkbenchApp(Session(ledger, folder / "runs", gpus=tuple))


async def shown(pilot: Pilot[None], rows: int = 1) -> None:
    """Go to Compare and wait until it shows at least so many rows."""
    await pilot.press("5")
    await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen) and len(shown_rows(pilot)) >= rows)


def shown_rows(pilot: Pilot[None]) -> list[ComparisonRow]:
    return list(pilot.app.screen.query_one("#rows", Table).rows)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40", "160x48"])
async def test_the_verdict_the_plot_and_what_was_lost(ledger: Ledger, tmp_path: Path, size: tuple[int, int]) -> None:
    compared_run(ledger, tmp_path)
    async with app_of(ledger, tmp_path).run_test(size=size) as pilot:
        await shown(pilot, 2)
        await until(
            pilot, lambda: all(part in screen(pilot) for part in ("lost 1 of 3", "gold   yes", "retention kept"))
        )
        lines = screen(pilot).splitlines()
        assert len(lines) == size[1] and all(len(row) <= size[0] for row in lines)
        assert lines[1].strip() == "tuned against its base: better 1, worse 0, kept 1, cannot tell 0"
        assert "It lost 3 answers that the base had right, won 40" in lines[2]
        (row,) = [row for row in lines if "pubmedqa acc." in row]
        assert "▲ better" in row and "├" in row and "●" in row and "60.0  97.0    100" in row
        assert any("retention kept" in row and "= kept" in row and "┊" in row for row in lines)
        await pilot.press("j")
        await until(pilot, lambda: "kept 100.0 % [96.1, 100.0], margin 95" in line(pilot, "detail"))


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x40", "160x48"])
async def test_enter_shows_both_answers_lost_ones_first(ledger: Ledger, tmp_path: Path, size: tuple[int, int]) -> None:
    run = finished_run(ledger, tmp_path)
    items = tuple(SuiteItem(f"q{n}", f"Question {n} [bold]?", answer=("yes",), choices=("yes", "no")) for n in range(4))
    suite = Suite("mine", items, "m")
    right, wrong = (
        Said("Yes, [red]of course.", choices={"yes": 1, "no": 0}),
        Said("No way.", choices={"yes": 0, "no": 1}),
    )
    answered(ledger, None, suite, [wrong, right, right, wrong])
    answered(ledger, run, suite, [right, right, wrong, wrong])
    async with app_of(ledger, tmp_path).run_test(size=size) as pilot:
        await shown(pilot)
        await until(pilot, lambda: "Question 2" in line(pilot, "detail"))
        await pilot.press("enter")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, ItemsScreen) and "Question 2" in line(pilot, "question")
        )
        rows = [row for row in screen(pilot).splitlines() if "Question" in row]
        assert "▼ lost" in rows[0] and "▲ won" in rows[1] and "yes ✓" in rows[0] and "no ✗" in rows[0]
        assert "Yes, [red]of course." in line(pilot, "base") and "No way." in line(pilot, "tuned")
        base = next(row for row in screen(pilot).splitlines() if "Yes, [red]of course." in row)
        assert ("No way." in base) == (size[0] >= 120)  # side by side
        await pilot.press("j")
        await until(pilot, lambda: "Question 0" in line(pilot, "question"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))


async def test_a_long_question_leaves_the_answers_in_sight(ledger: Ledger, tmp_path: Path) -> None:
    run = finished_run(ledger, tmp_path)
    prompt = "Is it so? " + " ".join(f"word{n}" for n in range(300))
    suite = Suite("long", (SuiteItem("q", prompt, answer=("yes",), choices=("yes", "no")),), "l")
    answered(ledger, None, suite, [Said("Base says yes.", choices={"yes": 1, "no": 0})])
    answered(ledger, run, suite, [Said("Tuned says no.", choices={"yes": 0, "no": 1})])
    async with app_of(ledger, tmp_path).run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await until(pilot, lambda: "Is it so?" in line(pilot, "detail"))
        await pilot.press("enter")
        await until(pilot, lambda: "Base says yes." in screen(pilot) and "Tuned says no." in screen(pilot))
        assert "word299" not in screen(pilot)
        await pilot.press("tab", "end")
        await until(pilot, lambda: "word299" in screen(pilot))


async def test_an_empty_ledger_says_what_to_press(ledger: Ledger, tmp_path: Path) -> None:
    async with app_of(ledger, tmp_path).run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: "Nothing to compare yet." in screen(pilot))
        assert "workbench evaluate RUN" in screen(pilot)
        await pilot.press("enter", "x", "t", "E")
        await until(pilot, lambda: "no run with a result to evaluate" in last_line(pilot))


async def test_all_metrics_and_back(ledger: Ledger, tmp_path: Path) -> None:
    compared_run(ledger, tmp_path)
    async with app_of(ledger, tmp_path).run_test(size=(80, 24)) as pilot:
        await shown(pilot, 2)
        main = len(shown_rows(pilot))
        await pilot.press("t")
        await until(pilot, lambda: "macro_f1" in {row.metric for row in shown_rows(pilot)})
        await pilot.press("t")
        await until(pilot, lambda: len(shown_rows(pilot)) == main)


async def test_runs_are_added_by_name_and_a_wrong_one_is_told(ledger: Ledger, tmp_path: Path) -> None:
    first, second = compared_run(ledger, tmp_path, "first"), compared_run(ledger, tmp_path, "second", seed=1)
    async with app_of(ledger, tmp_path).run_test(size=(120, 40)) as pilot:
        await shown(pilot, 2)
        pilot.app.screen.post_message(CompareRuns([first.uid]))
        await until(pilot, lambda: {row.run for row in shown_rows(pilot)} == {"first"})
        await pilot.press("a")
        await until(pilot, lambda: pilot.app.screen.query_one(LastLine).busy)
        await pilot.press(*"secnod", "enter")
        await until(pilot, lambda: "did you mean second?" in last_line(pilot))
        await pilot.press("a")
        await until(pilot, lambda: pilot.app.screen.query_one(LastLine).busy)
        await pilot.press(*"second", "enter")
        await until(pilot, lambda: (second.name, "first") in {(row.run, row.against) for row in shown_rows(pilot)})
        assert "second against first" in line(pilot, "headline") and "second/first" in screen(pilot)


async def test_a_report_is_written_and_never_over_another_unasked(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compared_run(ledger, tmp_path)
    path = tmp_path / "tuned-comparison.html"
    async with app_of(ledger, tmp_path).run_test(size=(160, 48)) as pilot:
        await shown(pilot, 2)
        await pilot.press("x")
        await until(pilot, lambda: pilot.app.screen.query_one(LastLine).busy)
        await pilot.press("enter")
        await until(pilot, lambda: "Written to" in last_line(pilot))
        assert "against its base" in path.read_text()
        path.write_text("mine")
        await pilot.press("x")
        await until(pilot, lambda: pilot.app.screen.query_one(LastLine).busy)
        await pilot.press("enter")
        await until(pilot, lambda: "Write over it?" in last_line(pilot))
        await pilot.press("n")
        await until(pilot, lambda: not pilot.app.screen.query_one(LastLine).busy)
        assert path.read_text() == "mine"


async def test_evaluate_asks_for_suites_and_tells_what_became_of_it(ledger: Ledger, tmp_path: Path) -> None:
    run = finished_run(ledger, tmp_path)  # its base is no model: the real process starts, and says so
    async with app_of(ledger, tmp_path).run_test(size=(160, 48)) as pilot:
        await pilot.press("5")
        await until(pilot, lambda: "Nothing to compare yet for tuned" in screen(pilot))
        await pilot.press("E")
        await until(pilot, lambda: "consistency hallucination retention" in screen(pilot).splitlines()[-1])
        await pilot.press("ctrl+u", *"retentoin", "enter")
        await until(pilot, lambda: "did you mean retention?" in last_line(pilot))
        assert not jobs.of_run(ledger, run.id)
        await pilot.press("E")
        await until(pilot, lambda: pilot.app.screen.query_one(LastLine).busy)
        await pilot.press("ctrl+u", *"retention", "enter")
        await until(pilot, lambda: "evaluation failed: There is no folder" in line(pilot, "work"))
        (job,) = jobs.of_run(ledger, run.id)
        assert (job.kind, job.argument) == ("evaluate", f'{{"runs": ["{run.uid}"], "suites": ["retention"]}}')


async def test_an_evaluation_at_work_is_shown_and_can_be_stopped(ledger: Ledger, tmp_path: Path) -> None:
    run = compared_run(ledger, tmp_path)
    child = subprocess.Popen(["sleep", "60"])
    try:
        argument: dict[str, object] = {"runs": [run.uid], "suites": ["retention"]}
        job = jobs.create(ledger, "evaluate", run=run.id, argument=argument, log=tmp_path / "log")
        job = jobs.sign_in(ledger, job, pid=child.pid)
        jobs.set_state(ledger, job, State.RUNNING)
        jobs.beat(ledger, job, done=30, total=120, doing="retention: tuned")
        async with app_of(ledger, tmp_path).run_test(size=(80, 24)) as pilot:
            await shown(pilot, 2)
            await until(pilot, lambda: "evaluating retention: tuned" in line(pilot, "work"))
            assert "█████░" in line(pilot, "work") and "30 of 120 answers" in line(pilot, "work")
            assert "S stop" in screen(pilot).splitlines()[-1]
            await pilot.press("S")
            await until(pilot, lambda: "Stop the evaluation?" in last_line(pilot))
            await pilot.press("y")
            await until(pilot, lambda: machine.started(child.pid) is None)
            await until(pilot, lambda: "evaluation lost" in line(pilot, "work"))
    finally:
        child.kill()
        child.wait()


def test_the_axis_holds_every_interval_and_marks_zero(ledger: Ledger, tmp_path: Path) -> None:
    run = compared_run(ledger, tmp_path, n=60)
    rows = compare(ledger, [run]).rows
    scale = forest.axis(rows)
    for width in (12, 20, 61):
        title = forest.ticks(scale, width)
        assert len(title) == width and "0" in title
        for row in rows:
            drawn = forest.plot(row, scale, width)
            assert len(drawn) == width and drawn.count("●") == 1
            assert drawn.index("●") == max(0, min(width - 1, scale.column(100 * row.difference, width)))


def test_an_interval_beyond_the_axis_ends_in_arrows(ledger: Ledger, tmp_path: Path) -> None:
    run = finished_run(ledger, tmp_path)
    suite = decisions(4)
    answered(ledger, None, suite, decided(4, ()))
    answered(ledger, run, suite, decided(4, (0, 1)))
    (row,) = [row for row in compare(ledger, [run]).rows if row.metric == "accuracy"]
    drawn = forest.plot(row, forest.Axis(-10, 10), 21)
    assert drawn[0] == "●" and drawn[10] == "─" and drawn[-1] in "┤▸"


def filter_line(pilot: Pilot[None]) -> str:
    return pilot.app.screen.query_one(FilterLine).content.plain


async def typed(pilot: Pilot[None], text: str) -> None:
    """A filter in place of the one that applies."""
    await pilot.press("slash", "ctrl+u", *text, "enter")


async def test_rows_pass_a_filter(ledger: Ledger, tmp_path: Path) -> None:
    compared_run(ledger, tmp_path)
    async with app_of(ledger, tmp_path).run_test(size=(120, 40)) as pilot:
        await shown(pilot, 2)
        await typed(pilot, "verdict=kept")
        await until(pilot, lambda: [row.suite for row in shown_rows(pilot)] == ["retention"])
        assert filter_line(pilot).startswith("/ verdict=kept  ") and filter_line(pilot).endswith("  1 of 2")
        await typed(pilot, "difference>30 lost=3 vredict=worse")
        await until(pilot, lambda: [row.suite for row in shown_rows(pilot)] == ["pubmedqa"])
        assert "did you mean verdict?" in filter_line(pilot)
        await typed(pilot, "nothing-like-it")
        await until(pilot, lambda: not shown_rows(pilot))
        assert "Nothing to compare yet." not in screen(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: len(shown_rows(pilot)) == 2 and not widget(pilot, FilterLine).has_class("-applies"))


async def test_questions_pass_a_filter(ledger: Ledger, tmp_path: Path) -> None:
    run = finished_run(ledger, tmp_path)
    items = tuple(SuiteItem(f"q{n}", f"Question {n}?", answer=("yes",), choices=("yes", "no")) for n in range(4))
    suite = Suite("mine", items, "m")
    right, wrong = Said("Of course.", choices={"yes": 1, "no": 0}), Said("No way.", choices={"yes": 0, "no": 1})
    answered(ledger, None, suite, [wrong, right, right, wrong])
    answered(ledger, run, suite, [right, right, wrong, wrong])

    def questions() -> list[str]:
        return [one.item for one in pilot.app.screen.query_one(Table).rows]

    async with app_of(ledger, tmp_path).run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        await until(pilot, lambda: "Question 2" in line(pilot, "detail"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ItemsScreen) and len(questions()) == 4)
        assert "esc back" in last_line(pilot) and "/ filter" in last_line(pilot) and "? help" not in last_line(pilot)
        await typed(pilot, "outcome=lost,won")
        await until(pilot, lambda: questions() == ["q2", "q0"])
        assert "2 of 4" in filter_line(pilot)
        await typed(pilot, 'tuned~"no way" -outcome=same')
        await until(pilot, lambda: questions() == ["q2"])
        await typed(pilot, "course question~1")
        await until(pilot, lambda: questions() == ["q1"])
        await typed(pilot, "zebra")
        await until(pilot, lambda: "No question passes" in line(pilot, "question"))
        await pilot.press("escape")
        await until(pilot, lambda: len(questions()) == 4 and "Question" in line(pilot, "question"))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
