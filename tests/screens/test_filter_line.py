"""A filter as it is typed on the last line: applied at every key, completed by tab, its mistakes pointed at."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual import work
from textual.app import App
from textual.pilot import Pilot

from engine.filtering import Field, Filter
from engine.ledger import Ledger
from screens.commands import Command
from screens.session import Session
from screens.widgets.entry import Entry
from screens.widgets.last_line import Hint, LastLine
from screens.widgets.page import Page
from tests.screens.driving import until

FIELDS = (
    Field("name", "text", "the run's name"),
    Field("state", "choice", "what it is doing", ("running", "stopped", "finished", "failed")),
    Field("loss", "number", "last validation loss"),
    Field("model", "text", "base model"),
)


class Filtering(Page[None]):
    """Keeps what it is told."""

    NAME = "runs"
    VERBS = (
        Command("t.filter", "/", "filter", "Filter.", "filter"),
        Command("t.ask", "a", "ask", "Ask.", "ask"),
    )
    only = Filter()
    heard: list[Filter]

    @work(group="prompt")
    async def action_filter(self) -> None:
        self.heard = []
        await self.filter_prompt(
            self.only.text, FIELDS, self.take, lambda name: ["a b", "c"] if name == "model" else []
        )

    def take(self, only: Filter) -> None:
        self.only = only
        self.heard.append(only)

    @work(group="ask")
    async def action_ask(self) -> None:
        await self.ask("Really?")


class Host(App[None]):
    """The page alone."""

    def __init__(self, page: Filtering) -> None:
        super().__init__()
        self.page = page

    def on_mount(self) -> None:
        self.push_screen(self.page)


@pytest.fixture
def page(ledger: Ledger, tmp_path: Path) -> Filtering:
    return Filtering(Session(ledger, tmp_path))


def hint(pilot: Pilot[None]) -> str:
    return pilot.app.screen.query_one(Hint).content.plain.rstrip()


def typed(pilot: Pilot[None]) -> str:
    return pilot.app.screen.query_one(Entry).value


async def opened(pilot: Pilot[None]) -> None:
    await pilot.press("slash")
    await until(pilot, lambda: pilot.app.screen.query_one(LastLine).has_class("-typing") and hint(pilot))


async def test_fields_then_operators_then_values_are_offered_and_taken(page: Filtering) -> None:
    async with Host(page).run_test(size=(80, 10)) as pilot:
        await opened(pilot)
        assert hint(pilot) == "tab name  state  loss  model   · in the run's name"
        await pilot.press("s", "tab")
        assert typed(pilot) == "state"
        await until(pilot, lambda: hint(pilot).startswith("tab =  !="))
        await pilot.press("=", "f")
        await until(pilot, lambda: hint(pilot) == "tab finished  failed   · what it is doing: a word")
        await pilot.press("right")
        assert typed(pilot) == "state=finished"
        await pilot.press("space", "m", "tab", "~", "tab", "enter")
        await until(pilot, lambda: not pilot.app.screen.query_one(LastLine).has_class("-typing"))
        assert str(page.only) == 'state=finished model~"a b"'
        assert [len(each.parts) for each in page.heard][-1] == 2
        assert not pilot.app.screen.query_one(LastLine).has_class("-assisted")


async def test_keys_in_one_packet_are_done_in_their_order(page: Filtering) -> None:
    async with Host(page).run_test(size=(80, 10)) as pilot:
        await opened(pilot)
        await pilot.press(*"st", "tab", *"=fi", "tab", "space", *"lo", "tab", *"<1", "enter")
        await until(pilot, lambda: page.only.text == "state=finished loss<1")


async def test_a_number_is_explained_where_it_belongs(page: Filtering) -> None:
    async with Host(page).run_test(size=(80, 10)) as pilot:
        await opened(pilot)
        await pilot.press(*"loss<")
        await until(pilot, lambda: hint(pilot).startswith("last validation loss: a number such as 1e-4"))
        await pilot.press(*"abc")
        await until(pilot, lambda: hint(pilot).startswith("       ^^^ 'abc' is not a number"))


async def test_a_typo_is_pointed_at_and_put_right(page: Filtering) -> None:
    async with Host(page).run_test(size=(80, 10)) as pilot:
        await opened(pilot)
        await pilot.press(*"loss<2 staet=fin")
        await until(pilot, lambda: "no field staet" in hint(pilot))
        region, line = pilot.app.screen.query_one(Entry).region, pilot.app.screen.query_one(Hint).region
        assert region.x + len("loss<2 ") - line.x == hint(pilot).index("^^^^^")
        assert str(page.only) == "loss<2"  # what is understood applies
        await pilot.press("tab", "enter")
        await until(pilot, lambda: page.only.text == "loss<2 state=fin" and not page.only.mistakes)


async def test_a_mistake_far_to_the_right_is_pointed_at_too(page: Filtering) -> None:
    async with Host(page).run_test(size=(80, 10)) as pilot:
        await opened(pilot)
        await pilot.press(*("x" * 120), "space", *"staet=fin")
        await until(pilot, lambda: "no field staet" in hint(pilot))
        entry, line = pilot.app.screen.query_one(Entry), pilot.app.screen.query_one(Hint).region
        place = entry.region.x - round(entry.scroll_offset.x) + 121 - line.x
        assert hint(pilot).index("^^^^^") == place and len(hint(pilot)) <= line.width


async def test_esc_brings_back_what_stood_there(page: Filtering) -> None:
    async with Host(page).run_test(size=(80, 10)) as pilot:
        await opened(pilot)
        await pilot.press(*"one", "enter")
        await until(pilot, lambda: not pilot.app.screen.query_one(LastLine).has_class("-typing"))
        await opened(pilot)
        await pilot.press(*" two")
        await until(pilot, lambda: page.only.text == "one two")
        await pilot.press("escape")
        await until(pilot, lambda: page.only.text == "one")


async def test_a_word_that_may_become_a_field_waits(page: Filtering) -> None:
    async with Host(page).run_test(size=(80, 10)) as pilot:
        await opened(pilot)
        await pilot.press(*"loss<2 sta")
        await until(pilot, lambda: page.only.text == "loss<2 ")
        await pilot.press("x")
        await until(pilot, lambda: page.only.text == "loss<2 stax")
        await pilot.press("backspace", "enter")
        await until(pilot, lambda: page.only.text == "loss<2 sta")
