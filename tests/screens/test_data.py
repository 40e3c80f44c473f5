"""The Data screen, driven by keys."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from engine.ledger import Ledger
from engine.profile_file import dump
from screens.data import DataScreen
from screens.messages import LookAtData
from screens.session import Session
from screens.widgets.filter_line import FilterLine
from screens.widgets.last_line import LastLine, Words
from screens.widgets.line import Line
from tests.tiny import tiny_profile, write_rows

PATIENCE = 60.0  # seconds


class Host(App[None]):
    """Shows the screen alone."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        super().__init__()
        self.page = DataScreen(Session(ledger, folder))

    def on_mount(self) -> None:
        self.push_screen(self.page)


@asynccontextmanager
async def shown(
    ledger: Ledger, folder: Path, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[DataScreen, Pilot[None]]]:
    app = Host(ledger, folder)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app.page, pilot


async def until(condition: Callable[[], object]) -> None:
    for _ in range(round(PATIENCE / 0.02)):  # looks are counted, not the time: a machine may stand still
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited in vain")


def line(page: DataScreen, name: str) -> str:
    return page.query_one(f"#{name}", Line).content.plain


def last_line(page: DataScreen) -> str:
    return page.query_one(LastLine).query_one(Words).content.plain


def filter_line(page: DataScreen) -> str:
    return page.query_one(FilterLine).content.plain


def table_text(page: DataScreen) -> str:
    table = page.table
    return "\n".join(table.render_line(y).text for y in range(table.size.height))


def looked(page: DataScreen) -> bool:
    return "median" in line(page, "lengths")


async def type_path(page: DataScreen, pilot: Pilot[None], path: str) -> None:
    await pilot.press("o")
    await pilot.pause()
    page.query_one(LastLine).query_one(Input).value = path
    await pilot.press("enter")


def profile_text(base: Path, rows: Path, **settings: object) -> str:
    return dump(tiny_profile(base, rows, **settings))


async def test_nothing_open_says_what_to_press(ledger: Ledger, tmp_path: Path) -> None:
    async with shown(ledger, tmp_path) as (page, _):
        assert "No data open" in line(page, "welcome")
        assert page.query_one("#welcome").display
        assert not page.query_one("#body").display
        assert "open" in last_line(page)
        assert "findings" not in last_line(page)


async def test_a_file_opened_by_its_path_without_a_model(ledger: Ledger, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 30)
    async with shown(ledger, tmp_path) as (page, pilot):
        await type_path(page, pilot, str(rows))
        await until(lambda: looked(page))
        assert "rows.jsonl  30 rows" in line(page, "title")
        assert "in characters" in line(page, "title")
        assert "nothing wrong" in line(page, "found")
        assert "Read the jitter of recording 0." in table_text(page)
        await until(lambda: "[Mapped]" in line(page, "tabs") and "user" in line(page, "record"))
        await pilot.press("tab", "tab")
        assert "No base model chosen" in line(page, "record")


async def test_a_row_as_the_model_sees_it(ledger: Ledger, tmp_path: Path, tiny_base: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 40)
    async with shown(ledger, tmp_path) as (page, pilot):
        page.receive(LookAtData(str(rows), profile_text(tiny_base, rows, **{"split.test": 0.2})))
        await until(lambda: looked(page))
        assert "as seen by base · chat  split 24/8/8" in line(page, "title")
        await until(lambda: "supervised" in line(page, "tabs"))
        shown_tokens = page.query_one("#record", Line).content
        assert shown_tokens.plain.startswith("[user]⏎Read·the·jitter·of·recording·0.⏎⏎")
        assert shown_tokens.plain.endswith("[end]⏎[assistant]⏎It·is·raised.[end]⏎")
        counted = "".join(
            shown_tokens.plain[span.start : span.end] for span in shown_tokens.spans if "underline" in str(span.style)
        )
        assert counted == "It·is·raised.[end]"
        views = []
        for _ in range(5):
            views.append(line(page, "tabs").split("[")[1].split("]")[0])
            await pilot.press("tab")
        assert views == ["Tokens", "Labels", "Raw", "Mapped", "Rendered"]
        await pilot.resize_terminal(120, 30)  # half of it is too little for one line, and no figure is cut
        await until(lambda: "supervised 5 of 28" in "".join(strip.text for strip in page._compositor.render_strips()))
        await pilot.press("tab")
        assert page.query_one("#record", Line).content.plain.count("\n") > 10
        first = line(page, "record")
        await pilot.press("j")
        await until(lambda: line(page, "record") != first)


async def test_tokens_over_the_limit_are_marked_and_the_cut_is_said(
    ledger: Ledger, tmp_path: Path, tiny_base: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 20)
    async with shown(ledger, tmp_path) as (page, pilot):
        page.receive(LookAtData(str(rows), profile_text(tiny_base, rows, **{"template.max_tokens": 36})))
        await until(lambda: looked(page))
        assert "the end of the input is cut off" in line(page, "found")
        assert "over 36:" in line(page, "lengths")
        assert "!" not in table_text(page)
        await pilot.press(*"jjjjjjjj")
        assert "!" in table_text(page)
        await until(lambda: "tokens of the input cut" in line(page, "tabs"))


async def test_findings_lead_to_their_rows_and_back(ledger: Ledger, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", 30)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:9], '{"instruction": ', *lines[9:], lines[3]]))
    async with shown(ledger, tmp_path) as (page, pilot):
        await type_path(page, pilot, str(path))
        await until(lambda: looked(page))
        assert line(page, "found").startswith("✗ 1 row: cannot be read")
        await pilot.press("f")
        assert "rows.jsonl:10" in line(page, "record")
        await pilot.press("enter")
        await pilot.pause()
        assert list(page.table.rows) == [9]
        assert "rows.jsonl:10: this line is not JSON" in table_text(page)
        await pilot.press("escape")
        assert len(page.table.rows) == 32
        await pilot.press("f", "j", "enter")
        await pilot.pause()
        assert list(page.table.rows) == [31]


async def apply_filter(pilot: Pilot[None], text: str) -> None:
    """Type it in place of the one that applies."""
    await pilot.press("slash", "ctrl+u", *text, "enter")


async def test_a_filter_lists_only_the_rows_that_pass(ledger: Ledger, tmp_path: Path, tiny_base: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 40)
    async with shown(ledger, tmp_path) as (page, pilot):
        page.receive(LookAtData(str(rows), profile_text(tiny_base, rows, **{"split.test": 0.2})))
        await until(lambda: looked(page))
        await apply_filter(pilot, "split=test")
        await until(lambda: len(page.table.rows) == 8)
        tested = list(page.table.rows)
        await apply_filter(pilot, "-split:test")
        await until(lambda: sorted([*page.table.rows, *tested]) == list(range(40)))
        await pilot.press("escape")
        await until(lambda: len(page.table.rows) == 40)
        await pilot.press("G")
        await apply_filter(pilot, '"recording 3"')
        await until(lambda: list(page.table.rows) == [3, *range(30, 40)])
        assert page.table.selected == 39  # the cursor stays on its row
        assert filter_line(page).split("   ")[0] == '/ "recording 3"' and filter_line(page).endswith("   11 of 40")
        await apply_filter(pilot, '"recording 3" row<40 tokens>20 supervised>=1 instruction~recording')
        await until(lambda: list(page.table.rows) == [3, *range(30, 39)])
        assert page.table.selected == 38
        await apply_filter(pilot, "tokens>100k")
        await until(lambda: "0 of 40, esc takes it away" in filter_line(page))
        await pilot.press("escape")
        await until(lambda: len(page.table.rows) == 40 and not page.query_one(FilterLine).display)


async def test_a_filter_with_a_typo_says_so_and_applies_the_rest(ledger: Ledger, tmp_path: Path) -> None:
    async with shown(ledger, tmp_path, (120, 30)) as (page, pilot):
        await type_path(page, pilot, str(write_rows(tmp_path / "rows.jsonl", 30)))
        await until(lambda: looked(page))
        await apply_filter(pilot, "row<=3 lable=no")
        await until(lambda: list(page.table.rows) == [0, 1, 2])
        assert "there is no field lable - did you mean label?" in filter_line(page)


async def test_with_another_base_a_filter_means_what_it_says_then(
    ledger: Ledger, tmp_path: Path, tiny_base: Path
) -> None:
    async with shown(ledger, tmp_path, (120, 30)) as (page, pilot):
        await type_path(page, pilot, str(write_rows(tmp_path / "rows.jsonl", 30)))
        await until(lambda: looked(page))
        await apply_filter(pilot, "characters>100 finding!=exact")
        await until(lambda: 0 < len(page.table.rows) < 30)
        await pilot.press("b", "ctrl+u", *str(tiny_base), "enter")
        await until(lambda: "as seen by base" in line(page, "title") and looked(page))
        await until(lambda: "there is no field characters" in filter_line(page) and len(page.table.rows) == 30)


async def test_a_finding_can_be_asked_for_with_all_its_rows(ledger: Ledger, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", 30)
    path.write_text(path.read_text() * 2)
    async with shown(ledger, tmp_path) as (page, pilot):
        await type_path(page, pilot, str(path))
        await until(lambda: looked(page))
        await apply_filter(pilot, "finding=exact row>40")
        await until(lambda: list(page.table.rows) == list(range(40, 60)))
        await pilot.press("escape", "f", "enter")
        await until(lambda: list(page.table.rows) == list(range(30, 60)))  # more than the report names
        await apply_filter(pilot, "row>50")
        await until(lambda: list(page.table.rows) == list(range(50, 60)))
        await pilot.press("escape")
        await until(lambda: len(page.table.rows) == 30)
        await pilot.press("escape")
        await until(lambda: len(page.table.rows) == 60)


async def test_what_cannot_be_opened_is_said_and_what_was_open_stays(ledger: Ledger, tmp_path: Path) -> None:
    async with shown(ledger, tmp_path) as (page, pilot):
        await type_path(page, pilot, str(tmp_path / "nothing.jsonl"))
        await until(lambda: "There is no file" in last_line(page))
        assert page.query_one("#welcome").display
        await type_path(page, pilot, str(write_rows(tmp_path / "rows.jsonl", 30)))
        await until(lambda: looked(page))
        await type_path(page, pilot, str(tmp_path / "nothing.jsonl"))
        await until(lambda: "There is no file" in last_line(page))
        assert len(page.table.rows) == 30
        await pilot.press("b")
        await pilot.press(*"/nowhere", "enter")
        await until(lambda: "There is no folder /nowhere" in last_line(page))


async def test_control_characters_in_data_never_reach_the_terminal(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({"question": "red \x1b[31m bell \x07", "answer": "\x9b2J", "label": "\x1b]0;x\x07"}) + "\n"
    )
    async with shown(ledger, tmp_path) as (page, pilot):
        await type_path(page, pilot, str(path))
        await until(lambda: looked(page) and "bell" in line(page, "record"))
        for _ in range(2):
            everything = table_text(page) + line(page, "record")
            assert not set(everything) & set("\x1b\x07\x9b")
            await pilot.press("shift+tab")


async def test_a_profile_whose_base_cannot_be_had_still_shows_its_rows(ledger: Ledger, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 30)
    async with shown(ledger, tmp_path) as (page, _):
        page.receive(LookAtData(str(rows), profile_text(Path("somebody/model"), rows)))
        await until(lambda: looked(page))
        assert "somebody/model is not on this machine" in last_line(page)
        assert "split 22/8/0" in line(page, "title")


async def test_any_number_of_rows_can_be_walked_and_looking_can_be_stopped(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    row = json.dumps({"question": "Is it raised?", "answer": "Yes."}).encode() + b"\n"
    path.write_bytes(row * 300_000 + json.dumps({"question": "The last one?", "answer": "Yes."}).encode())
    async with shown(ledger, tmp_path) as (page, pilot):
        await type_path(page, pilot, str(path))
        await until(lambda: len(page.table.rows) == 300_001)
        await pilot.press("G")
        assert "The last one?" in table_text(page)
        await until(lambda: "esc stops" in line(page, "found"))
        await pilot.press("escape")
        await until(lambda: "stopped" in line(page, "found"))
        assert not looked(page)


async def test_detail_stands_beside_the_rows_where_there_is_room(ledger: Ledger, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 30)
    for size, beside in (((80, 24), False), ((160, 48), True)):
        async with shown(ledger, tmp_path, size) as (page, pilot):
            await type_path(page, pilot, str(rows))
            await until(lambda page=page: looked(page))
            await pilot.pause()
            table, detail = page.table.region, page.query_one("#detail").region
            assert (detail.x >= table.right) == beside
            assert (detail.y >= table.bottom) != beside
            await pilot.press("enter")
            await pilot.pause()
            assert page.query_one("#detail").region.width == size[0]
            await pilot.press("escape")
            await pilot.pause()
            assert page.table.region == table
