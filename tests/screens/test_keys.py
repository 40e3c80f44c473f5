"""Keys over all screens: none double, none shadowed, none that does not arrive, none without words; one letter, one verb."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.widgets import Input, TextArea

from engine.errors import Problem
from engine.ledger import Ledger
from screens.commands import EVERYWHERE, Command
from screens.messages import SCREENS, ScreenName
from screens.session import Session
from screens.widgets.page import Page
from tests.screens.driving import last_line, until
from tests.screens.example import Example
from workbench import keymap
from workbench.app import WorkbenchApp, opened_pages, page_type
from workbench.settings import Settings

PAGES = (*map(page_type, SCREENS), *opened_pages())
NAMES = tuple(page.__name__ for page in PAGES)
ONE_VERB = {
    "R": {"run", "resume"},  # set it going: a profile starts, a run that stands there goes on
    "o": {"open", "open data"},
}
EVERYWHERE_MEANS = {"/": {"filter", "find"}, "z": {"zoom"}, "y": {"copy"}, "x": {"export", "report"}, "space": {"mark"}}


def keys(command: Command) -> tuple[str, ...]:
    return keymap.keys_of(command, {})


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_key_means_two_things_on_a_screen(page: type) -> None:
    taken: dict[str, str] = {}
    for command in keymap.commands_of(page):
        for key in keys(command):
            assert taken.setdefault(key, command.id) == command.id, f"{key}: {taken[key]} and {command.id}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_key_arrives_and_is_explained_and_does_something(page: type) -> None:
    for command in keymap.commands_of(page):
        assert not any(map(keymap.problem_of, keys(command))), command.id
        assert command.label and command.help.endswith("."), command.id
        assert len(command.label.split()) <= 2, command.id
    for verb in page.VERBS:
        assert hasattr(page, f"action_{verb.action.partition('(')[0].rpartition('.')[2]}"), verb.id


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_what_is_bound_is_a_command(page: type) -> None:
    bound = page._merged_bindings.key_to_bindings
    declared = {key for verb in page.VERBS for key in keys(verb)}
    textuals = {"tab", "shift+tab", "ctrl+c", "super+c"}
    assert set(bound) - textuals == declared - textuals, "bound without being a Command, or a Command that is not bound"


def test_one_letter_is_one_verb_on_all_screens() -> None:
    verbs: dict[str, set[str]] = {}
    for page in PAGES:
        for verb in page.VERBS:
            for key in keys(verb):
                if len(key) == 1:
                    verbs.setdefault(key, set()).add(verb.label)
    assert {
        key: labels for key, labels in verbs.items() if len(labels) > 1 and not labels <= ONE_VERB.get(key, set())
    } == {}


def test_what_means_the_same_everywhere_does() -> None:
    for page in PAGES:
        for verb in page.VERBS:
            for key, labels in EVERYWHERE_MEANS.items():
                if verb.key == key:
                    assert verb.label in labels, f"{page.NAME}: {key} {verb.label}"


def test_ids_are_unique_or_the_same_command() -> None:
    known: dict[str, Command] = {}
    for page in PAGES:
        for command in keymap.commands_of(page):
            assert known.setdefault(command.id, command).action == command.action, command.id


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"run.puase": "Z"}, "did you mean run.pause?"),
        ({"run.pause": "ctrl+m"}, "ctrl+m"),
        ({"run.pause": "alt+p"}, "Alt"),
        ({"run.pause": "S"}, "S is both"),
        ({"run.pause": "j"}, "j is both"),
    ],
)
def test_a_key_map_that_cannot_work_is_refused(mapping: dict[str, str], words: str) -> None:
    with pytest.raises(Problem, match="key map") as refused:
        keymap.checked(mapping, PAGES)
    assert words in refused.value.what


def test_keys_may_be_swapped() -> None:
    assert keymap.checked({"run.pause": "S", "run.stop": "P"}, PAGES)


@pytest.mark.parametrize("name", SCREENS)
async def test_no_widget_keeps_a_key_from_its_screen(name: ScreenName, ledger: Ledger, tmp_path: Path) -> None:
    app = WorkbenchApp(Session(ledger, tmp_path))
    async with app.run_test():
        await app.switch_mode(name)
        page = app.screen
        assert isinstance(page, Page)
        declared = {key for command in (*page.VERBS, *EVERYWHERE) for key in keys(command)} - {"tab", "shift+tab"}
        for widget in page.query("*"):
            if widget.can_focus and not isinstance(widget, Input | TextArea):
                assert not declared & set(widget._bindings.key_to_bindings), widget


async def test_a_users_key_does_the_command_and_stands_on_the_last_line(four: Example, tmp_path: Path) -> None:
    app = WorkbenchApp(four.session, Settings(runs_folder=tmp_path, keymap={"runs.filter": "v"}, seen_places=True))
    async with app.run_test(size=(100, 24)) as pilot:
        await until(pilot, lambda: "v filter" in last_line(pilot))
        await pilot.press("slash")
        assert not app.screen.query_one("LastLine").has_class("-typing")
        await pilot.press("v")
        await until(pilot, lambda: app.screen.query_one("LastLine").has_class("-typing"))
