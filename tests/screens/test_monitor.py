"""The Monitor screen: one run's curves, figures and events, and the orders that keys give it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from textual.pilot import Pilot

from engine import removal
from engine.ledger import Ledger, events, jobs, metrics, orders, runs
from engine.ledger.metrics import Curve
from engine.ledger.states import State
from screens.monitor.pace import pace
from screens.session import Session
from screens.widgets.chart import Chart
from screens.widgets.filter_line import FilterLine
from screens.widgets.table import Table
from tests.screens.driving import last_line, line, screen, until
from tests.screens.example import MINUTE, NOW, Example
from workbench.app import WorkbenchApp


def opened(four: Example, name: str) -> WorkbenchApp:
    return WorkbenchApp(four.session, watch=four.runs[name].uid)


def title(pilot: Pilot[None], name: str = "main") -> str:
    return pilot.app.screen.query_one(f"#{name}", Chart).render_line(0).text


async def shown(pilot: Pilot[None], name: str) -> None:
    await until(pilot, lambda: pilot.app.screen.query("#headline") and name in line(pilot, "headline"))
    await until(pilot, lambda: title(pilot).strip())


async def test_a_live_run_is_told_in_one_line(four: Example) -> None:
    async with opened(four, "pubmedqa-lora-16").run_test() as pilot:
        await shown(pilot, "pubmedqa-lora-16")
        assert line(pilot, "headline") == "● pubmedqa-lora-16  52/84  epoch 1.9/3  4,120 tok/s  ends 13:10"
        facts = line(pilot, "facts").split("\n")
        assert facts[0].split() == ["best", ".922", "@50"]
        assert any(fact.split() == ["stop", "0", "of", "3"] for fact in facts)
        assert any(fact.split() == ["unsaved", "2", "steps"] for fact in facts)


async def test_how_well_the_gpu_is_used_and_what_it_takes_is_told(four: Example) -> None:
    run = four.runs["pubmedqa-lora-16"]
    with metrics.Writer(four.session.ledger, run.id) as writer:
        writer.log(52, {"train/mfu": 0.382, "energy/joules": 1.8e6})
    async with opened(four, run.name).run_test(size=(120, 40)) as pilot:
        await shown(pilot, run.name)
        await until(pilot, lambda: "4,120 tok/s  MFU 38 %  ends 13:10" in line(pilot, "headline"))
        assert any(fact.split() == ["energy", ".500", "kWh"] for fact in line(pilot, "facts").split("\n"))


async def test_what_is_trained_and_how_rows_are_packed_is_told_in_a_line(four: Example) -> None:
    run = four.runs["pubmedqa-lora-16"]
    rows: list[dict[str, object]] = [
        {"kind": "attention", "trained": True, "kept": "float32", "parameters": 33_000_000},
        {"kind": "attention", "trained": False, "kept": "nf4", "parameters": 4_000_000_000},
    ]
    async with opened(four, run.name).run_test() as pilot:
        await shown(pilot, run.name)
        assert "trains" not in line(pilot, "machine")
    known = {"inventory": {"rows": rows, "notes": []}, "rows": "packed to 512 tokens, no leak"}
    runs.record(four.session.ledger, run, environment=known)
    async with opened(four, run.name).run_test() as pilot:
        await shown(pilot, run.name)
        told = line(pilot, "machine").split("\n")[-1]
        assert told == "trains 33M of 4G parameters   rows packed to 512 tokens, no leak"
    async with opened(four, run.name).run_test(size=(120, 40)) as pilot:
        await shown(pilot, run.name)
        assert line(pilot, "machine").endswith("no leak   in attention")


async def test_machine_and_time_are_told(four: Example) -> None:
    async with opened(four, "pubmedqa-lora-16").run_test() as pilot:
        await shown(pilot, "pubmedqa-lora-16")
        lines = line(pilot, "machine").split("\n")
        assert lines[0] == "0 RTX 4090  402 W  73 C  mem mine  9.2 others   .4 free 14.4 GiB  busy  97 %"
        assert lines[1] == "1 H200      610 W  61 C  mem mine    0 others  131 free  9.4 GiB  busy 100 %"
        assert lines[2] == "disk   412 GB free, 1 checkpoint 500 MB   ram 9 of 62 GiB"
        assert lines[3] == "time   data 1 %  forward 31 %  backward 65 %  update 3 %  save <1 %"


async def test_new_steps_and_events_are_seen(four: Example) -> None:
    ledger, run = four.session.ledger, four.runs["pubmedqa-lora-16"]
    async with opened(four, run.name).run_test() as pilot:
        await shown(pilot, run.name)
        with metrics.Writer(ledger, run.id) as writer:
            writer.log(53, {"train/loss": 0.777})
        runs.progress(ledger, run, step=53, steps=84, ends=None)
        events.add(ledger, "sample", "Is it so? -> yes.", run=run.id, step=53)
        await until(pilot, lambda: ".777" in title(pilot) and "53/84" in line(pilot, "headline"))
        await until(pilot, lambda: "Is it so? -> yes. (step 53)" in screen(pilot))


@pytest.mark.parametrize(
    ("name", "words"), [("speech-dora", "R resumes it from the beginning"), ("healthcare-full", "no memory left")]
)
async def test_what_went_wrong_stands_above_the_charts(four: Example, name: str, words: str) -> None:
    async with opened(four, name).run_test() as pilot:
        await shown(pilot, name)
        await until(pilot, lambda: words in line(pilot, "trouble"))


async def test_a_finished_run_is_shown_whole(four: Example) -> None:
    async with opened(four, "pubmedqa-lora-64").run_test() as pilot:
        await shown(pilot, "pubmedqa-lora-64")
        assert line(pilot, "headline") == "✓ pubmedqa-lora-64  finished  84/84  epoch 3.0/3"
        assert "val .8" in title(pilot)
        assert "P pause" not in last_line(pilot) and "E evaluate" in last_line(pilot)


async def test_suites_are_not_offered_to_a_run_without_a_result(four: Example) -> None:
    async with opened(four, "healthcare-full").run_test() as pilot:
        await shown(pilot, "healthcare-full")
        await until(pilot, lambda: "R resume" in last_line(pilot))
        assert "E evaluate" not in last_line(pilot)
        await pilot.press("E")
        await until(pilot, lambda: "healthcare-full has no result to evaluate." in last_line(pilot))


async def test_brackets_go_through_the_metrics_and_back(four: Example) -> None:
    async with opened(four, "pubmedqa-lora-16").run_test() as pilot:
        await shown(pilot, "pubmedqa-lora-16")
        seen = []
        for _ in range(5):
            seen.append(title(pilot).split("  ")[0])
            await pilot.press("right_square_bracket")
        assert seen == ["loss", "grad norm", "rate", "tokens/s", "memory MiB"]
        assert title(pilot).startswith("loss")
        await pilot.press("left_square_bracket")
        assert title(pilot).startswith("memory MiB")


async def test_preferences_show_margin_and_accuracy_beside_the_loss(four: Example) -> None:
    run = four.runs["pubmedqa-lora-16"]
    with metrics.Writer(four.session.ledger, run.id) as writer:
        for step in range(1, 53):
            told = {"reward_margin": step / 100, "accuracy": 0.75, "chosen_reward": 0.1, "rejected_reward": -0.1}
            writer.log(step, {f"train/{name}": value for name, value in told.items()})
        writer.log(52, {"validation/reward_margin": 0.31, "validation/accuracy": 0.64})
    async with opened(four, run.name).run_test(size=(120, 40)) as pilot:
        await shown(pilot, run.name)
        await until(pilot, lambda: title(pilot, "side").startswith("margin  ━ train .520  ━ val .310"))
        assert any(fact.split() == ["margin", ".310,", "64", "%"] for fact in line(pilot, "facts").split("\n"))
        seen = []
        for _ in range(5):
            seen.append(title(pilot).split("  ")[0])
            await pilot.press("right_square_bracket")
        assert seen == ["loss", "margin", "grad norm", "accuracy", "rewards"]


async def test_what_a_run_does_before_its_first_step_is_counted(four: Example) -> None:
    ledger, run = four.session.ledger, four.runs["pubmedqa-lora-16"]
    (job,) = jobs.of_run(ledger, run.id)
    jobs.set_state(ledger, job, State.STARTING)
    jobs.beat(ledger, job, doing="computing reference log-probabilities", done=12, total=480)
    async with opened(four, run.name).run_test(size=(120, 40)) as pilot:
        await shown(pilot, run.name)
        await until(pilot, lambda: "computing reference log-probabilities 12/480" in line(pilot, "headline"))


async def test_the_cursor_reads_the_spike(four: Example) -> None:
    async with opened(four, "pubmedqa-lora-16").run_test(size=(120, 40)) as pilot:
        await shown(pilot, "pubmedqa-lora-16")
        await pilot.press("right_square_bracket", *["less_than_sign"] * 6)
        assert title(pilot).startswith("grad norm at step 47") and "8.100" in title(pilot)


async def test_zoom_gives_the_chart_the_screen_and_takes_it_back(four: Example) -> None:
    async with opened(four, "pubmedqa-lora-16").run_test() as pilot:
        await shown(pilot, "pubmedqa-lora-16")
        chart = pilot.app.screen.query_one("#main", Chart)
        small = chart.size
        await pilot.press("z")
        await until(pilot, lambda: chart.size.height > 15 and chart.size.width > 70)
        await pilot.press("escape")
        await until(pilot, lambda: chart.size == small)


async def test_an_order_is_shown_as_waiting_until_it_is_taken(four: Example) -> None:
    ledger, run = four.session.ledger, four.runs["pubmedqa-lora-16"]
    async with opened(four, run.name).run_test() as pilot:
        await shown(pilot, run.name)
        await pilot.press("C")
        await until(pilot, lambda: line(pilot, "waiting") == "○ ordered, waiting for the next step: checkpoint")
        orders.acknowledge(ledger, orders.waiting(ledger, run.id)[0], step=53, answer="taken")
        await until(pilot, lambda: line(pilot, "waiting") == "")


async def test_a_new_event_stays_on_top_but_does_not_move_a_cursor_further_down(four: Example) -> None:
    ledger, run = four.session.ledger, four.runs["pubmedqa-lora-16"]
    async with opened(four, run.name).run_test() as pilot:
        await shown(pilot, run.name)
        table = pilot.app.screen.query_one(Table)
        await until(pilot, lambda: len(table.rows) == 3)
        events.add(ledger, "test", "newest", run=run.id)
        await until(pilot, lambda: len(table.rows) == 4)
        assert table.selected.text == "newest"
        await pilot.press("j")
        stood = table.selected
        events.add(ledger, "test", "newer still", run=run.id)
        await until(pilot, lambda: len(table.rows) == 5)
        assert table.selected == stood


async def test_what_happened_meanwhile_is_summed_up(four: Example) -> None:
    ledger, run = four.session.ledger, four.runs["pubmedqa-lora-16"]
    now = [NOW]
    app = WorkbenchApp(replace(four.session, clock=lambda: now[0]), watch=run.uid)
    async with app.run_test() as pilot:
        await shown(pilot, run.name)
        await pilot.press("1")
        await until(pilot, lambda: pilot.app.screen.NAME == "runs")
        with metrics.Writer(ledger, run.id) as writer:
            writer.log(60, {"validation/loss": 0.8})
        runs.progress(ledger, run, step=60, steps=84, ends=None)
        events.add(ledger, "gradient", "Too large", run=run.id, level="warning")
        now[0] += 9 * MINUTE
        await pilot.press("4")
        await until(
            pilot, lambda: line(pilot, "since") == "since you left for 9m: 8 steps, val .922 -> .800, 1 warning"
        )


async def test_without_a_run_it_says_what_to_press(ledger: Ledger, tmp_path: Path) -> None:
    async with WorkbenchApp(Session(ledger, tmp_path)).run_test() as pilot:
        await pilot.press("4")
        await until(pilot, lambda: "No run yet." in screen(pilot))
        await pilot.press("right_square_bracket", "less_than_sign", "P")
        await until(pilot, lambda: "There is no run yet" in last_line(pilot))


async def test_a_run_that_is_deleted_meanwhile_gives_way_to_another(four: Example) -> None:
    async with opened(four, "pubmedqa-lora-64").run_test() as pilot:
        await shown(pilot, "pubmedqa-lora-64")
        removal.remove(four.session.ledger, four.runs["pubmedqa-lora-64"])
        await until(pilot, lambda: "pubmedqa-lora-16" in line(pilot, "headline"))


def curve(times: list[float]) -> Curve:
    many = len(times)
    return Curve(np.arange(1, many + 1), np.zeros(many), np.array(times), 0)


def test_the_end_is_between_two_times_that_scatter_widens(four: Example) -> None:
    run = replace(four.runs["pubmedqa-lora-16"], ends=None)
    steady = pace(curve([10.0 * step for step in range(52)]), run)
    assert steady is not None and steady.step == 10.0
    assert steady.earliest == steady.latest == pytest.approx(510 + 32 * 10)
    uneven = pace(curve(np.cumsum([8.0, 12.0] * 26).tolist()), run)
    assert uneven is not None and uneven.latest - uneven.earliest > 20


def test_a_pause_is_not_a_slow_step(four: Example) -> None:
    times = [10.0 * step + (3600 if step > 20 else 0) for step in range(52)]
    found = pace(curve(times), four.runs["pubmedqa-lora-16"])
    assert found is not None and found.step == 10.0


def test_too_few_steps_promise_nothing(four: Example) -> None:
    assert pace(curve([time.time()] * 3), four.runs["pubmedqa-lora-16"]) is None


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_picture(four: Example, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    async def ready(pilot: Pilot[None]) -> None:
        await shown(pilot, "pubmedqa-lora-16")
        await until(pilot, lambda: len(pilot.app.screen.query_one(Table).rows) == 3)

    assert snap_compare(opened(four, "pubmedqa-lora-16"), terminal_size=size, run_before=ready)


def filter_line(pilot: Pilot[None]) -> str:
    return pilot.app.screen.query_one(FilterLine).content.plain


async def test_events_pass_a_filter(four: Example) -> None:
    run = four.runs["pubmedqa-lora-16"]
    ledger = four.session.ledger
    events.add(ledger, "gradient", "norm 8.2", run=run.id, step=51, level="warning")
    events.add(ledger, "sample", "yes", run=run.id, step=48, detail={"prompt": "Is low-dose aspirin enough?"})

    def told() -> list[str]:
        return [event.text for event in pilot.app.screen.query_one(Table).rows]

    async with opened(four, run.name).run_test() as pilot:
        await shown(pilot, run.name)
        await until(pilot, lambda: "yes" in told())
        whole = len(told())
        await pilot.press("slash", *"kind=grad", "tab", "space", *"step>50", "enter")
        await until(pilot, lambda: told() == ["norm 8.2"])
        assert filter_line(pilot).startswith("/ kind=gradient step>50 ") and filter_line(pilot).endswith(
            f" 1 of {whole}"
        )
        await pilot.press("slash", "ctrl+u", *"aspirin level=inof", "enter")
        await until(pilot, lambda: told() == ["yes"])
        assert "did you mean info?" in filter_line(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: len(told()) == whole)
        assert not pilot.app.screen.query_one(FilterLine).display
        await pilot.press("escape")
        await until(pilot, lambda: not pilot.app.screen.query("#headline"))
