"""The application around the screens: the way from one to another, help, palette, themes, the first start, poor terminals."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.segment import Segment
from textual.color import Color
from textual.events import Key
from textual.message import Message
from textual.pilot import Pilot
from textual.theme import Theme
from textual.widgets import Input

from engine.ledger import Ledger, orders, runs
from engine.profile import flat
from engine.profile_file import dump
from screens.messages import SCREENS, CompareRuns, ConfigureFrom, EvaluateRuns, GoTo, LookAtData, WatchRun
from screens.session import Session
from screens.widgets.page import Page
from tests.screens.driving import DEADLINE, line, screen, until
from tests.screens.example import Example
from tests.tiny import tiny_profile, write_rows
from workbench import settings as user_settings
from workbench import themes
from workbench.app import WorkbenchApp, page_type
from workbench.settings import Settings


def here(pilot: Pilot[None]) -> str:
    page = pilot.app.screen
    return page.NAME if isinstance(page, Page) else type(page).__name__


async def test_figures_go_to_the_five_screens_and_the_first_line_says_where_one_is(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test(size=(80, 24)) as pilot:
        for number, name in enumerate(SCREENS, 1):
            await pilot.press(str(number))
            tab = f"[{number} {name.title()}]"
            await until(pilot, lambda tab=tab: tab in screen(pilot).splitlines()[0])  # type: ignore[misc]
            assert here(pilot) == name
        assert screen(pilot).splitlines()[0].endswith("0▄you  1█used")


async def test_from_runs_monitor_shows_the_run_that_was_looked_at(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "speech-dora" in screen(pilot))
        page = pilot.app.screen
        while page.chosen is None or page.chosen.name != "speech-dora":
            await pilot.press("j")
            await pilot.pause()
        await pilot.press("4")
        await until(pilot, lambda: here(pilot) == "monitor" and "speech-dora" in screen(pilot).splitlines()[1])
        await pilot.press("2", "4")
        await until(pilot, lambda: here(pilot) == "monitor" and "speech-dora" in screen(pilot).splitlines()[1])


async def test_a_click_on_a_tab_goes_there(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "Compare" in screen(pilot))
        await pilot.click("HeaderLine", offset=(screen(pilot).splitlines()[0].index("5 Compare"), 0))
        await until(pilot, lambda: here(pilot) == "compare")


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (lambda uid: GoTo("data"), "data"),
        (lambda uid: WatchRun(uid), "monitor"),
        (lambda uid: LookAtData("nowhere.jsonl"), "data"),
        (lambda uid: ConfigureFrom(run_uid=uid), "configure"),
        (lambda uid: CompareRuns([uid]), "compare"),
        (lambda uid: EvaluateRuns([uid]), "compare"),
    ],
)
async def test_a_message_of_one_screen_reaches_another(
    four: Example, monkeypatch: pytest.MonkeyPatch, message: Callable[[str], Message], name: str
) -> None:
    asked = message(four.runs["pubmedqa-lora-64"].uid)
    received: list[Message] = []
    if not isinstance(asked, GoTo):
        monkeypatch.setattr(page_type(name), "receive", lambda _, message: received.append(message))  # type: ignore[arg-type]
    async with WorkbenchApp(four.session).run_test() as pilot:
        pilot.app.screen.post_message(asked)
        await until(pilot, lambda: here(pilot) == name)
        if not isinstance(asked, GoTo):
            await until(pilot, lambda: received == [asked])


@pytest.mark.parametrize("name", SCREENS)
async def test_help_has_every_command_of_the_screen(four: Example, name: str) -> None:
    async with WorkbenchApp(four.session).run_test(size=(160, 80)) as pilot:
        await pilot.app.switch_mode(name)
        await pilot.press("question_mark")
        await until(pilot, lambda: here(pilot) == "HelpScreen")
        text = screen(pilot)
        for command in (*page_type(name).VERBS, *NAMES_OF_MOVES):  # type: ignore[arg-type]
            label = command if isinstance(command, str) else command.label
            assert label in text, label
        await pilot.press("question_mark")
        await until(pilot, lambda: here(pilot) == name)


NAMES_OF_MOVES = ("page down", "last", "palette", "quit")


async def test_the_palette_does_what_a_key_does(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await until(pilot, lambda: "52/84" in screen(pilot))
        await pilot.press("ctrl+p", *"runs diff")
        await until(pilot, lambda: "runs diff  (d)" in screen(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: type(pilot.app.screen).__name__ == "DiffScreen")


async def test_a_theme_chosen_in_the_palette_is_kept(four: Example) -> None:
    app = WorkbenchApp(four.session, Settings(runs_folder=four.session.runs_folder))
    async with app.run_test() as pilot:
        assert app.theme == "workbench-dark"
        await pilot.press("ctrl+p", *"theme light")
        await until(pilot, lambda: "Use the light theme" in screen(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: user_settings.load().theme == "workbench-light")


async def test_a_theme_that_is_not_there_is_the_default(four: Example) -> None:
    app = WorkbenchApp(four.session, Settings(theme="pink", seen_places=True))
    async with app.run_test():
        assert app.theme == "workbench-dark"


async def test_the_first_start_shows_both_places_and_keeps_the_answer(ledger: Ledger, tmp_path: Path) -> None:
    app = WorkbenchApp(Session(ledger, tmp_path / "runs"), Settings(runs_folder=tmp_path / "runs"))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: here(pilot) == "PlacesScreen")
        await until(pilot, lambda: str(ledger.path)[:60] in screen(pilot) and "GB free on" in screen(pilot))
        entry = app.screen.query_one(Input)
        entry.value = "relative"
        await pilot.press("enter")
        await until(pilot, lambda: "named from the root" in line(pilot, "trouble"))
        (tmp_path / "file").touch()
        entry.value = str(tmp_path / "file" / "below")
        await pilot.press("enter")
        await until(pilot, lambda: "cannot be made" in line(pilot, "trouble"))
        entry.value = str(tmp_path / "elsewhere")
        await pilot.press("enter")
        await until(pilot, lambda: here(pilot) == "runs")
        kept = user_settings.load()
        assert kept.seen_places and kept.runs_folder == tmp_path / "elsewhere"
        assert app.screen.session.runs_folder == tmp_path / "elsewhere"  # type: ignore[attr-defined]
        assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o700


async def test_enter_agrees_at_the_first_start_whatever_has_the_focus(ledger: Ledger, tmp_path: Path) -> None:
    app = WorkbenchApp(Session(ledger, tmp_path / "runs"), Settings(runs_folder=tmp_path / "runs"))
    async with app.run_test() as pilot:
        await until(pilot, lambda: here(pilot) == "PlacesScreen")
        app.screen.set_focus(None)
        await pilot.press("enter")
        await until(pilot, lambda: "No runs yet." in screen(pilot))
        assert user_settings.load().seen_places


async def test_a_disk_that_takes_its_time_at_the_first_start_stops_neither_keys_nor_drawing(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync of a small file waits for all that others write: on a busy disk for a minute, in which the screen stood still."""
    synced, write, written = threading.Event(), user_settings.save, []

    def slow(settings: Settings) -> None:
        assert synced.wait(DEADLINE)
        written.append(settings)
        write(settings)

    monkeypatch.setattr(user_settings, "save", slow)
    app = WorkbenchApp(Session(ledger, tmp_path / "runs"), Settings(runs_folder=tmp_path / "runs"))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: here(pilot) == "PlacesScreen")
        await pilot.press("enter")
        await until(pilot, lambda: f"Making {tmp_path / 'runs'}" in screen(pilot))
        await pilot.press("enter", "x")
        await until(pilot, lambda: app.screen.query_one(Input).value == "x")  # it was selected
        # Left only when the answer is on the disk: whoever closes the terminal as soon as Runs is seen is not asked again.
        assert here(pilot) == "PlacesScreen"
        synced.set()
        await until(pilot, lambda: "No runs yet." in screen(pilot))
        assert user_settings.load().seen_places
    assert [settings.runs_folder for settings in written] == [tmp_path / "runs"]


@pytest.mark.parametrize("settings", [None, Settings(seen_places=True)])
async def test_later_starts_do_not_ask(ledger: Ledger, tmp_path: Path, settings: Settings | None) -> None:
    async with WorkbenchApp(Session(ledger, tmp_path), settings).run_test() as pilot:
        await until(pilot, lambda: "No runs yet." in screen(pilot))


@pytest.mark.parametrize(
    ("environment", "colours", "theme"),
    [
        ({}, "truecolor", "workbench-dark"),
        ({}, "256", "workbench-dark"),
        ({}, "standard", "workbench-ansi"),
        ({"NO_COLOR": "1"}, "truecolor", "workbench-ansi"),
    ],
)
def test_a_poor_terminal_gets_its_own_colours(environment: Mapping[str, str], colours: str, theme: str) -> None:
    assert themes.fitting("workbench-dark", colours, environment) == theme
    assert themes.fitting("workbench-light", "truecolor", {}) == "workbench-light"


@pytest.mark.parametrize("theme", [themes.DARK, themes.LIGHT], ids=lambda theme: theme.name)
def test_lines_between_panes_are_seen_in_256_colours(theme: Theme) -> None:
    panel, background = (
        RichColor.parse(str(colour)).downgrade(ColorSystem.EIGHT_BIT).number
        for colour in (theme.panel, theme.background)
    )
    assert panel != background


@pytest.mark.parametrize(
    ("environment", "ascii_only"),
    [
        ({}, False),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "C.utf8", "TERM": "linux"}, True),
    ],
)
def test_the_locale_says_whether_there_are_symbols(environment: Mapping[str, str], ascii_only: bool) -> None:
    assert themes.only_ascii(environment) is ascii_only


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_spelled_in_ascii_every_text_keeps_its_width(text: str) -> None:
    (spelled,) = themes.AsciiOnly().apply([Segment(text)], Color(0, 0, 0))
    assert spelled.text.isascii()
    assert cell_len(spelled.text) == sum(map(cell_len, text))


async def test_without_colours_and_symbols_the_screen_still_tells(
    four: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("LC_ALL", "C")
    app = WorkbenchApp(four.session)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "gradient norm" in line(pilot, "detail"))
        for words in ("&gt;&#160;running", "+&#160;finished", "?&#160;lost", "x&#160;OOM&#160;at&#160;12", "v.850"):
            await until(pilot, lambda words=words: words in app.export_screenshot(simplify=True), words)  # type: ignore[misc]
        assert "●" not in app.export_screenshot()


async def test_leaving_asks_before_it_loses_changes_to_a_profile(four: Example) -> None:
    app = WorkbenchApp(four.session)
    async with app.run_test(size=(80, 24)) as pilot:
        app.post_message(ConfigureFrom(run_uid=four.runs["pubmedqa-lora-64"].uid))
        await until(pilot, lambda: "nothing changed" in screen(pilot))
        await pilot.press("enter")  # on the title
        await until(pilot, lambda: "title =" in screen(pilot))
        await pilot.press(*"mine", "enter")
        await until(pilot, lambda: "1 value differs" in screen(pilot))
        await pilot.press("1", "question_mark", "ctrl+q")
        await until(pilot, lambda: "Leave and lose 1 change to pubmedqa-lora-64?" in screen(pilot))
        assert here(pilot) == "configure"
        await pilot.press("n")
        await until(pilot, lambda: "Leave and lose" not in screen(pilot))
        assert app.is_running
        await pilot.press("ctrl+q")
        await until(pilot, lambda: "Leave and lose" in screen(pilot))
        await pilot.press("y")
        await until(pilot, lambda: not app.is_running)


async def test_from_a_run_to_one_like_it_and_to_its_data(four: Example, tiny_base: Path, tmp_path: Path) -> None:
    profile = tiny_profile(tiny_base, write_rows(tmp_path / "rows.jsonl", 12))
    ledger = four.session.ledger
    run = runs.create(
        ledger, name="again", runs_folder=tmp_path, profile=dump(profile), settings=flat(profile), steps=None
    )
    async with WorkbenchApp(four.session).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: f" {run.name} " in screen(pilot))
        await pilot.press("g", "plus")
        await until(pilot, lambda: "like again, nothing changed" in screen(pilot))
        await pilot.press("o")
        await until(pilot, lambda: here(pilot) == "data" and "rows.jsonl  12 rows  as seen by" in screen(pilot))


def packet(pilot: Pilot[None], text: str) -> None:
    """Keys that arrive together, as they do over a slow line."""
    for letter in text:
        name = {"/": "slash", "\r": "enter", "=": "equals_sign"}.get(letter, letter)
        pilot.app.post_message(Key(name, None if letter == "\r" else letter))


async def test_what_is_typed_ahead_of_a_prompt_goes_there(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "pubmedqa-lora-16" in screen(pilot))
        packet(pilot, "/state=finP\r")
        await until(pilot, lambda: "/ state=finP" in screen(pilot))
        assert not orders.waiting(four.session.ledger, four.runs["pubmedqa-lora-16"].id)


async def test_no_question_is_answered_before_it_was_asked(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: "pubmedqa-lora-16" in screen(pilot))
        packet(pilot, "Sy")
        await until(pilot, lambda: "y yes" in screen(pilot))
        assert not orders.waiting(four.session.ledger, four.runs["pubmedqa-lora-16"].id)
        await pilot.press("n")
