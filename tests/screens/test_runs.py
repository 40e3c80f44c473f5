"""The Runs screen: what is told about runs, and what keys do to them - for real, in the ledger and on the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from engine import launch, removal
from engine.ledger import Ledger, jobs, orders, queue, runs
from engine.ledger.states import State
from screens.runs.note import NoteScreen
from screens.runs.screen import RunsScreen
from screens.session import Session
from screens.widgets.table import Table
from tests.screens.driving import last_line, line, screen, until
from tests.screens.example import Example
from workbench.app import WorkbenchApp


def page_of(pilot: Pilot[None]) -> RunsScreen:
    page = pilot.app.screen
    assert isinstance(page, RunsScreen)
    return page


def names(pilot: Pilot[None]) -> list[str]:
    return [item.row.name for item in pilot.app.screen.query_one("#runs", Table).rows if item.row is not None]


async def choose(pilot: Pilot[None], name: str) -> None:
    """Put the cursor on a run and wait until it is told about."""
    await until(pilot, lambda: name in names(pilot))
    pilot.app.screen.query_one("#runs", Table).move_to(names(pilot).index(name))
    await until(pilot, lambda: line(pilot, "detail").startswith(name))


def waiting(ledger: Ledger, run: runs.Run) -> list[tuple[str, float | None]]:
    return [(order.verb, order.value) for order in orders.waiting(ledger, run.id)]


async def test_each_run_has_its_state_with_symbol_and_word(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await until(pilot, lambda: len(names(pilot)) == 4)
        text = screen(pilot)
        for words in ("● running", "✓ finished", "? lost", "✗ OOM at 12", "52/84", "↓.850", "13:10"):
            assert words in text, words


async def test_a_lost_run_says_that_r_resumes_it_and_a_failed_one_says_why(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, "speech-dora")
        assert "R resumes it" in line(pilot, "detail")
        assert "R resume" in last_line(pilot) and "P pause" not in last_line(pilot)
        await choose(pilot, "healthcare-full")
        assert "GPU 0 has no memory left" in line(pilot, "detail")


async def test_the_detail_says_what_sets_the_run_apart(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, "pubmedqa-lora-16")
        told = line(pilot, "detail")
        assert "method.rank 16 (64)" in told and "from pubmedqa-lora-64" in told
        assert "9.2 GiB, predicted 9.1" in told
        assert "13:01 ! gradient norm 8.1 at step 47" in told


async def test_what_happens_in_the_ledger_is_seen(four: Example) -> None:
    ledger, run = four.session.ledger, four.runs["pubmedqa-lora-16"]
    async with WorkbenchApp(four.session).run_test() as pilot:
        await until(pilot, lambda: "52/84" in screen(pilot))
        runs.progress(ledger, run, step=53, steps=84, ends=None)
        await until(pilot, lambda: "53/84" in screen(pilot))
        assert "52/84" not in screen(pilot)


async def test_the_queue_is_seen_and_its_order_changed_by_key(four: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = four.session.ledger
    monkeypatch.setattr("engine.jobs.spawn", lambda ledger, job: None)

    def order() -> list[str]:
        return [each.name for each in queue.waiting(ledger)]

    for name in ("healthcare-full", "speech-dora"):
        four.runs[name].folder.mkdir(parents=True)
        launch.resume(ledger, runs.find(ledger, name), queue=True)
        (job,) = [each.job for each in queue.waiting(ledger) if each.name == name]
        jobs.beat(ledger, jobs.sign_in(ledger, job, pid=os.getpid()), doing="waiting behind somebody")
    async with WorkbenchApp(four.session).run_test() as pilot:
        await until(pilot, lambda: "○ queued 1" in screen(pilot) and "○ queued 2" in screen(pilot))
        await choose(pilot, "speech-dora")
        await until(pilot, lambda: "waiting behind somebody" in line(pilot, "detail") and "Q queue" in last_line(pilot))
        await pilot.press("Q", "enter")
        await until(pilot, lambda: order() == ["speech-dora", "healthcare-full"])
        await pilot.press("Q", "backspace", "9", "enter")
        await until(pilot, lambda: order() == ["healthcare-full", "speech-dora"])
        await pilot.press("Q", "backspace", "x", "enter")
        await until(pilot, lambda: "is not a place" in last_line(pilot))
        await choose(pilot, "pubmedqa-lora-16")
        await pilot.press("Q")
        await until(pilot, lambda: "is running: there is nothing to queue" in last_line(pilot))


async def test_a_run_that_was_lost_is_queued_by_key(four: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.jobs.spawn", lambda ledger, job: None)
    four.runs["speech-dora"].folder.mkdir(parents=True)
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, "speech-dora")
        await pilot.press("Q")
        await until(pilot, lambda: [each.name for each in queue.waiting(four.session.ledger)] == ["speech-dora"])


async def test_a_run_is_exported_by_key_to_where_one_says(four: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, run = four.session.ledger, four.runs["pubmedqa-lora-64"]
    monkeypatch.setattr("engine.jobs.spawn", lambda ledger, job: None)
    assert run.result
    run.result.mkdir(parents=True)
    with ledger.transaction() as connection:
        connection.execute(
            "UPDATE run_document SET profile = ?", ("model.base = 'base'\ndata = [{source = 'rows.jsonl'}]\n",)
        )
    async with WorkbenchApp(four.session).run_test(size=(160, 48)) as pilot:
        await choose(pilot, run.name)
        await until(pilot, lambda: "x export" in last_line(pilot))
        await choose(pilot, "pubmedqa-lora-16")
        await pilot.press("x")
        await until(pilot, lambda: "is running: there is nothing to export" in last_line(pilot))
        await choose(pilot, "healthcare-full")
        await pilot.press("x")
        await until(pilot, lambda: "has no result to export" in last_line(pilot))
        await choose(pilot, run.name)
        await pilot.press("x", *"/mine", "enter")
        await until(pilot, lambda: jobs.recent(ledger, "export"))
        (job,) = jobs.recent(ledger, "export")
        assert job.run == run.id
        assert json.loads(job.argument)["out"] == str(run.folder / "export" / "merged" / "mine")
        jobs.beat(ledger, jobs.sign_in(ledger, job, pid=os.getpid()), doing="merging", done=3, total=16)
        await until(pilot, lambda: "export   merging 3/16" in line(pilot, "detail"))
        jobs.set_state(ledger, job, State.FAILED, cause="disk", message="The export needs 9 GB\nIt goes to /mine.")
        await until(pilot, lambda: "✗ The export needs 9 GB It goes to /mine." in line(pilot, "detail"))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("lora", {"pubmedqa-lora-16", "pubmedqa-lora-64"}),
        ("state=lost,fail", {"speech-dora", "healthcare-full"}),
        ("method=dora", set()),
        ("model~qwen state=running", {"pubmedqa-lora-16"}),
        ("LORA -name~64", {"pubmedqa-lora-16"}),
    ],
)
async def test_the_filter_is_applied_while_typing(four: Example, text: str, kept: set[str]) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await until(pilot, lambda: len(names(pilot)) == 4)
        await pilot.press("slash", *text)
        await until(pilot, lambda: set(names(pilot)) == kept)
        assert f"{len(kept)} of 4" in line(pilot, "filter")
        await pilot.press("escape")
        await until(pilot, lambda: len(names(pilot)) == 4)


async def test_a_filter_stays_after_enter_and_esc_takes_it_away(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await pilot.press("slash", *"zzz", "enter")
        await until(pilot, lambda: "No run passes" in line(pilot, "detail"))
        assert "0 of 4" in line(pilot, "filter")
        await pilot.press("escape")
        await until(pilot, lambda: len(names(pilot)) == 4)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (("P",), [("pause", None)]),
        (("C",), [("checkpoint", None)]),
        (("E",), [("evaluate", None)]),
        (("S", "y"), [("stop", None)]),
        (("F", "backspace", "backspace", "backspace", "2", "enter"), [("rate", 2.0)]),
    ],
)
async def test_capital_letters_give_orders(
    four: Example, keys: tuple[str, ...], expected: list[tuple[str, Any]]
) -> None:
    run = four.runs["pubmedqa-lora-16"]
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, run.name)
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        await until(pilot, lambda: waiting(four.session.ledger, run) == expected)
        await until(pilot, lambda: run.name in last_line(pilot))


async def test_stop_asks_and_no_gives_no_order(four: Example) -> None:
    run = four.runs["pubmedqa-lora-16"]
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, run.name)
        await pilot.press("S")
        await until(pilot, lambda: "at step 52 of 84?" in last_line(pilot))
        await pilot.press("n")
        await until(pilot, lambda: "enter open" in last_line(pilot))
        assert waiting(four.session.ledger, run) == []


@pytest.mark.parametrize("factor", ["0", "nan", "ten", "1000"])
async def test_a_factor_that_is_none_changes_nothing(four: Example, factor: str) -> None:
    run = four.runs["pubmedqa-lora-16"]
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, run.name)
        await pilot.press("F")
        await until(pilot, lambda: "learning rate" in last_line(pilot))
        await pilot.press("backspace", "backspace", "backspace", *factor, "enter")
        await until(pilot, lambda: "is not a factor" in last_line(pilot))
        assert waiting(four.session.ledger, run) == []


async def test_an_order_that_makes_no_sense_says_so(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, "speech-dora")
        await pilot.press("P")
        await until(pilot, lambda: "is lost: there is nothing to pause. R resumes it." in last_line(pilot))
        assert waiting(four.session.ledger, four.runs["speech-dora"]) == []


async def test_delete_says_what_that_is_and_u_brings_rows_and_files_back(four: Example) -> None:
    ledger, run = four.session.ledger, four.runs["pubmedqa-lora-64"]
    run.folder.mkdir(parents=True)
    (run.folder / "weights").write_bytes(b"0" * 1500)
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, run.name)
        await pilot.press("D")
        await until(pilot, lambda: "its adapter, checkpoints and metrics (1.5 kB)? U brings it" in last_line(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "enter open" in last_line(pilot))
        assert run.folder.is_dir() and runs.find(ledger, run.uid)
        await pilot.press("D")
        await until(pilot, lambda: "Delete" in last_line(pilot))
        await pilot.press("y")
        await until(pilot, lambda: run.name not in names(pilot) and "Deleted" in last_line(pilot))
        assert not run.folder.exists() and [each.uid for each in removal.binned(ledger)] == [run.uid]
        await pilot.press("U")
        await until(pilot, lambda: run.name in names(pilot))
        assert (run.folder / "weights").stat().st_size == 1500 and not removal.binned(ledger)
        await pilot.press("U")
        await until(pilot, lambda: "The bin is empty" in last_line(pilot))


async def test_several_runs_are_deleted_and_come_back_together(four: Example) -> None:
    gone = {"pubmedqa-lora-64", "healthcare-full"}
    async with WorkbenchApp(four.session).run_test() as pilot:
        for name in gone:
            await choose(pilot, name)
            await pilot.press("space")
        await pilot.press("D")
        await until(pilot, lambda: "Delete 2 runs" in last_line(pilot))
        await pilot.press("y")
        await until(pilot, lambda: len(names(pilot)) == 2 and "Deleted 2 runs" in last_line(pilot))
        assert not gone & set(names(pilot))
        await pilot.press("U")
        await until(pilot, lambda: gone < set(names(pilot)))


async def test_what_was_deleted_last_comes_back_though_not_from_here(four: Example) -> None:
    for name in ("pubmedqa-lora-64", "healthcare-full"):
        removal.remove(four.session.ledger, four.runs[name])
    async with WorkbenchApp(four.session).run_test() as pilot:
        await until(pilot, lambda: len(names(pilot)) == 2)
        await pilot.press("U")
        await until(pilot, lambda: len(names(pilot)) == 3)
        assert "healthcare-full" in names(pilot)


async def test_a_run_at_work_is_not_deleted(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, "pubmedqa-lora-16")
        await pilot.press("D")
        await until(pilot, lambda: "S stops it first. Nothing was deleted." in last_line(pilot))
        assert runs.find(four.session.ledger, "pubmedqa-lora-16").state is State.RUNNING


async def test_a_note_is_kept(four: Example) -> None:
    run = four.runs["pubmedqa-lora-64"]
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, run.name)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NoteScreen))
        await pilot.press(*"good", "enter", *"so far", "ctrl+o")
        await until(pilot, lambda: isinstance(pilot.app.screen, RunsScreen))
        await until(pilot, lambda: "note     good" in line(pilot, "detail"))
        assert runs.find(four.session.ledger, run.uid).note == "good\nso far"


async def test_y_copies_the_uid(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, "speech-dora")
        await pilot.press("y")
        await until(pilot, lambda: "Copied" in last_line(pilot))
        assert pilot.app.clipboard == four.runs["speech-dora"].uid


async def test_marked_runs_are_set_side_by_side(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await choose(pilot, "pubmedqa-lora-16")
        await pilot.press("space", "space", "d")
        await until(pilot, lambda: "1 setting differs between 2 runs" in screen(pilot))
        assert "method.rank" in screen(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: "2 marked" in line(pilot, "filter"))


async def test_resume_of_a_run_whose_folder_is_gone_says_so(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test(size=(100, 24)) as pilot:
        await choose(pilot, "speech-dora")
        await pilot.press("R")
        await until(pilot, lambda: last_line(pilot).startswith("✗ The folder of speech-dora is gone"))
        assert runs.find(four.session.ledger, "speech-dora").state is State.LOST


async def test_without_runs_it_says_what_to_press(ledger: Ledger, tmp_path: Any) -> None:
    async with WorkbenchApp(Session(ledger, tmp_path)).run_test() as pilot:
        await until(pilot, lambda: "No runs yet." in screen(pilot))
        assert "3  configure a run" in screen(pilot)
        await pilot.press("D", "enter", "P")
        await until(pilot, lambda: "There is no run yet" in last_line(pilot))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_picture(four: Example, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    async def ready(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "gradient norm" in line(pilot, "detail"))

    assert snap_compare(WorkbenchApp(four.session), terminal_size=size, run_before=ready)
