"""What all screens share: the last line asks and hears, the ledger is read when it changed, and nothing is sent when it did not."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import work
from textual.app import App, ComposeResult

from engine.errors import Problem
from engine.ledger import Ledger, events
from screens.commands import Command
from screens.session import Session
from screens.widgets.line import Line
from screens.widgets.page import Page
from tests.screens.driving import last_line, line, until


class Counting(Page[int]):
    """Shows how many events the ledger has; asks and prompts."""

    NAME = "runs"
    VERBS = (
        Command("t.ask", "a", "ask", "Ask.", "ask"),
        Command("t.name", "n", "name", "Prompt.", "name"),
        Command("t.fail", "f", "fail", "Fail.", "fail"),
        Command("t.wrong", "w", "wrong", "Ask where it would hang.", "wrong"),
        *(Command(f"t.{number}", f"f{number}", f"filler{number}", "Nothing.", "nothing") for number in range(2, 12)),
    )
    reads = 0
    answers: list[object]
    heard: list[str]

    def compose_body(self) -> ComposeResult:
        self.answers, self.heard = [], []
        yield Line(id="many")

    def read(self) -> int:
        self.reads += 1
        return int(str(self.session.ledger.value("SELECT count(*) FROM event")))

    def show(self, snapshot: int) -> None:
        self.query_one("#many", Line).show(str(snapshot))

    @work
    async def action_ask(self) -> None:
        self.answers.append(await self.ask("Really?"))

    @work
    async def action_name(self) -> None:
        self.answers.append(await self.prompt("name", "ab", suggestions=["abacus"], on_change=self.heard.append))

    @work
    async def action_fail(self) -> None:
        def fail() -> None:
            raise Problem("It broke", "The disk is full", "Free some space")

        self.answers.append(await self.attempt(fail))

    async def action_wrong(self) -> None:
        with pytest.raises(RuntimeError, match="@work"):
            await self.ask("Really?")
        self.answers.append("refused")


class Host(App[None]):
    """A page alone."""

    def __init__(self, page: Counting) -> None:
        super().__init__()
        self.page = page

    def on_mount(self) -> None:
        self.push_screen(self.page)


@pytest.fixture
def page(ledger: Ledger, tmp_path: Path) -> Counting:
    return Counting(Session(ledger, tmp_path))


async def test_the_ledger_is_read_again_when_it_changed(page: Counting) -> None:
    async with Host(page).run_test() as pilot:
        await until(pilot, lambda: line(pilot, "many") == "0")
        events.add(page.session.ledger, "test", "happened", run=None)
        await until(pilot, lambda: line(pilot, "many") == "1")
        assert page.reads >= 2


async def test_a_page_that_is_not_shown_reads_nothing(page: Counting) -> None:
    class Empty(Page[None]):
        NAME = "data"

    app = Host(page)
    async with app.run_test() as pilot:
        await until(pilot, lambda: line(pilot, "many") == "0")
        await app.push_screen(Empty(page.session))
        await pilot.pause(0.3)
        before = page.reads
        for number in range(3):
            events.add(page.session.ledger, "test", str(number), run=None)
            await pilot.pause(0.3)
        assert page.reads == before
        await app.pop_screen()
        await until(pilot, lambda: line(pilot, "many") == "3")


@pytest.mark.parametrize(("key", "answer"), [("y", True), ("n", False), ("escape", False), ("enter", False)])
async def test_a_question_is_answered_and_hears_no_other_key(page: Counting, key: str, answer: bool) -> None:
    async with Host(page).run_test() as pilot:
        await pilot.press("a")
        await until(pilot, lambda: last_line(pilot).startswith("Really?"))
        await pilot.press("n" if key == "nothing" else "a", "f", "tab")
        assert last_line(pilot).startswith("Really?")
        await pilot.press(key)
        await until(pilot, lambda: page.answers)
        assert page.answers == [answer]
        assert "ask" in last_line(pilot)


async def test_what_is_typed_comes_back_and_is_heard_on_the_way(page: Counting) -> None:
    async with Host(page).run_test() as pilot:
        await pilot.press("n")
        await until(pilot, lambda: last_line(pilot) == "name")
        await pilot.press("a", "right", "enter")
        await until(pilot, lambda: page.answers)
        assert page.answers == ["abacus"]
        assert page.heard[0] == "aba"


async def test_esc_leaves_a_prompt(page: Counting) -> None:
    async with Host(page).run_test() as pilot:
        await pilot.press("n")
        await until(pilot, lambda: last_line(pilot) == "name")
        await pilot.press("x", "escape")
        await until(pilot, lambda: page.answers)
        assert page.answers == [None]


async def test_a_problem_is_said_in_full_until_a_key_is_pressed(page: Counting) -> None:
    async with Host(page).run_test(size=(80, 24)) as pilot:
        await pilot.press("f")
        await until(pilot, lambda: page.answers)
        assert last_line(pilot) == "✗ It broke. The disk is full. Free some space."
        await pilot.press("tab")
        assert "It broke" not in last_line(pilot)


@pytest.mark.parametrize("again", ["name", "ask"])
async def test_what_is_asked_while_something_is_open_takes_its_place(page: Counting, again: str) -> None:
    """A message from another screen may ask while a prompt stands: the first is withdrawn, the second is heard."""
    async with Host(page).run_test() as pilot:
        for action in (again, again):
            getattr(page, f"action_{action}")()
            await pilot.pause()
        await until(pilot, lambda: len(page.answers) == 1)
        await pilot.press(*("c", "enter") if again == "name" else "y")
        await until(pilot, lambda: len(page.answers) == 2)
        assert page.answers == ([None, "abc"] if again == "name" else [False, True])


async def test_asking_outside_a_worker_is_refused_at_once(page: Counting) -> None:
    async with Host(page).run_test() as pilot:
        await pilot.press("w")
        await until(pilot, lambda: page.answers == ["refused"])


async def test_keys_that_do_not_fit_are_left_out_but_help_is_not(page: Counting) -> None:
    async with Host(page).run_test(size=(40, 10)) as pilot:
        await until(pilot, lambda: "a ask" in last_line(pilot))
        assert "filler11" not in last_line(pilot)
        assert last_line(pilot).endswith("? help")
        assert len(last_line(pilot)) <= 38


async def test_an_unreadable_ledger_is_said_and_the_page_lives(page: Counting) -> None:
    async with Host(page).run_test() as pilot:
        await until(pilot, lambda: line(pilot, "many") == "0")

        def broken() -> int:
            raise Problem("The ledger is damaged")

        page.read = broken  # type: ignore[method-assign]
        page.reread()
        await until(pilot, lambda: "The ledger is damaged" in last_line(pilot))
        del page.read
        events.add(page.session.ledger, "test", "happened", run=None)
        await until(pilot, lambda: line(pilot, "many") == "1")
