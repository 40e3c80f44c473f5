"""Looking through runs by key: columns, order, groups, labels, what opens, and what lasts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import Screen

from engine.ledger import labels, runs, table
from screens.runs.about import AboutScreen
from screens.runs.choosing import Choice, ChoosingScreen
from screens.runs.diff import DiffScreen
from screens.runs.grouping import GROUPINGS, Item
from screens.runs.opening import OVERLAID
from screens.runs.overlay import OverlayScreen
from screens.runs.screen import RunsScreen
from screens.runs.why import WhyScreen
from screens.session import Session
from screens.widgets.table import Table
from tests.benchmarks.many_runs import fill
from tests.screens.driving import last_line, line, screen, until
from tests.screens.example import NOW, Example
from workbench import settings as user_settings
from workbench.app import WorkbenchApp
from workbench.settings import Settings


@pytest.fixture
def many(ledger: Any, tmp_path: Path) -> Session:
    """300 runs: sweeps, tags, several bases, failures."""
    fill(ledger, tmp_path / "runs", 300, now=NOW)
    return Session(ledger, tmp_path / "runs", clock=lambda: NOW, gpus=tuple)


def items(pilot: Pilot[None]) -> list[Item]:
    return list(pilot.app.screen.query_one("#runs", Table).rows)


def names(pilot: Pilot[None]) -> list[str]:
    return [item.row.name for item in items(pilot) if item.row is not None]


def titles(pilot: Pilot[None]) -> list[str]:
    return [column.title for column in pilot.app.screen.query_one("#runs", Table).columns]


async def ready(pilot: Pilot[None]) -> None:
    """Everything has been read."""

    def done() -> bool:
        page = pilot.app.screen
        if not isinstance(page, RunsScreen) or not page._snapshot.runs or page._snapshot.more:
            return False
        return page._snapshot.wanted.room == page.query_one("#runs", Table).room

    await until(pilot, done)


async def press(pilot: Pilot[None], key: str) -> None:
    """A key, and the table as it then is."""
    page = pilot.app.screen
    assert isinstance(page, RunsScreen)
    before = page._asked
    await pilot.press(key)
    await until(pilot, lambda: page._asked != before and page._snapshot.wanted == page._asked)


async def back_on(pilot: Pilot[None], kind: type[Screen[Any]]) -> None:
    await until(pilot, lambda: isinstance(pilot.app.screen, kind))


async def test_columns_tell_runs_apart_and_sorting_goes_from_one_to_the_next(many: Session) -> None:
    async with WorkbenchApp(many).run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        assert {"rate", "rank", "best"} < set(titles(pilot))
        while "best↑" not in titles(pilot) and "name↑" not in titles(pilot):
            await press(pilot, "less_than_sign")
        assert "best↑" in titles(pilot)
        await until(pilot, lambda: items(pilot)[0].row.metrics and items(pilot)[0].row is not None)
        best = [item.row.metrics["validation/loss"].best for item in items(pilot) if item.row and item.row.metrics]
        assert best == sorted(best) and len(names(pilot)) == 300
        assert pilot.app.screen.query_one("#runs", Table).cursor == 0
        await pilot.press("r")
        await until(pilot, lambda: "best↓" in titles(pilot))
        assert items(pilot)[0].row.metrics["validation/loss"].best == max(best)
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: "best" in titles(pilot))


@pytest.mark.parametrize("by", ["sweep", "tag", "model", "method"])
async def test_groups_fold_and_open(many: Session, by: str) -> None:
    async with WorkbenchApp(many).run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        for _ in range(list(GROUPINGS).index(by)):
            await press(pilot, "left_parenthesis")
        assert f"by {GROUPINGS[by]}" in line(pilot, "filter")
        await until(pilot, lambda: any(item.row is None for item in items(pilot)))
        folded = len(items(pilot))
        place = next(place for place, item in enumerate(items(pilot)) if item.group is not None)
        group = items(pilot)[place].group
        pilot.app.screen.query_one("#runs", Table).move_to(place)
        await until(
            pilot, lambda: line(pilot, "detail").startswith(f"{'base model' if by == 'model' else by} {group.name}")
        )
        await pilot.press("enter")
        await until(pilot, lambda: len(items(pilot)) == folded + len(group.rows))
        if by != "method":  # of which there is one
            await pilot.press("right_parenthesis")
        await until(pilot, lambda: all(item.open for item in items(pilot) if item.row is None))
        await pilot.press("right_parenthesis")
        await until(pilot, lambda: len(items(pilot)) == folded)


async def test_marking_a_group_marks_its_runs_for_what_is_done_to_several(many: Session) -> None:
    async with WorkbenchApp(many).run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        await pilot.press("left_parenthesis")
        await until(pilot, lambda: any(item.row is None for item in items(pilot)))
        place = next(place for place, item in enumerate(items(pilot)) if item.group is not None)
        group = items(pilot)[place].group
        pilot.app.screen.query_one("#runs", Table).move_to(place)
        await pilot.press("P")
        await until(pilot, lambda: "This is a group" in last_line(pilot))
        await pilot.press("space")
        assert f"{len(group.rows)} marked" in line(pilot, "filter")
        await pilot.press("T", *"chosen", "enter")
        await until(pilot, lambda: f"Tagged {len(group.rows)} runs" in last_line(pilot))
        assert labels.known_tags(many.ledger)["chosen"] == len(group.rows)
        await pilot.press("T", *"-chosen", "enter")
        await until(pilot, lambda: "chosen" not in labels.known_tags(many.ledger))


async def test_what_looks_at_several_takes_those_that_pass_or_the_marked(many: Session) -> None:
    async def looked_at() -> int:
        await pilot.press("i")
        await back_on(pilot, WhyScreen)
        count = len(pilot.app.screen._runs)  # type: ignore[attr-defined]
        await pilot.press("escape")
        await back_on(pilot, RunsScreen)
        return count

    async with WorkbenchApp(many).run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        await pilot.press("slash", *"tag:medical", "enter")
        tagged = {row.name for row in table.read(many.ledger).rows if "medical" in row.tags}
        await until(pilot, lambda: set(names(pilot)) == tagged)
        assert await looked_at() == len(tagged) > OVERLAID
        await pilot.press("space", "space", "space")
        assert await looked_at() == 3
        pilot.app.screen.query_one("#runs", Table).unmark()
        await press(pilot, "left_parenthesis")
        await press(pilot, "left_parenthesis")  # by tag
        place = next(at for at, item in enumerate(items(pilot)) if item.group and item.group.name == "medical")
        pilot.app.screen.query_one("#runs", Table).move_to(place)
        await pilot.press("space", "O")
        await until(pilot, lambda: f"mark {OVERLAID} runs at most" in last_line(pilot))


async def test_columns_are_chosen_ordered_and_sorted_by_and_last(
    many: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(runs_folder=many.runs_folder, seen_places=True)
    async with WorkbenchApp(many, settings).run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        await pilot.press("c")
        await back_on(pilot, ChoosingScreen)

        def choices() -> list[Choice]:
            return list(pilot.app.screen.query_one("#choices", Table).rows)

        async def at(name: str) -> None:
            await until(pilot, lambda: name in [each.name for each in choices()])
            pilot.app.screen.query_one("#choices", Table).move_to([each.name for each in choices()].index(name))

        await pilot.press("slash", *"train/loss.smooth", "enter")
        await until(pilot, lambda: [each.name for each in choices()] == ["train/loss.smooth"])
        await pilot.press("space", "enter")
        await until(pilot, lambda: choices()[0].shown and choices()[0].sorted == "↑")
        await pilot.press("escape")
        await at("step")
        await pilot.press("space")
        await until(pilot, lambda: not next(each for each in choices() if each.name == "step").shown)
        await at("best")
        await pilot.press("K", "K", "K")
        await until(pilot, lambda: choices()[1].name == "best")
        await at("name")
        await pilot.press("space")
        await until(pilot, lambda: "always shown" in last_line(pilot))
        await pilot.press("escape")
        await back_on(pilot, RunsScreen)
        await until(pilot, lambda: titles(pilot)[1] == "best" and "loss ~↑" in titles(pilot))
        assert "step" not in titles(pilot)
        smoothed = [item.row.metrics["train/loss"].smoothed for item in items(pilot) if item.row and item.row.metrics]
        finite = [value for value in smoothed if value is not None]
        assert finite == sorted(finite) and len(finite) > 200
        await until(pilot, lambda: user_settings.load().runs.sort == "train/loss.smooth")
        before = titles(pilot)
    kept = user_settings.load()
    again = Session(many.ledger, many.runs_folder, clock=many.clock, gpus=tuple, view=kept.runs)
    async with WorkbenchApp(again, kept).run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        assert titles(pilot) == before
        await pilot.press("c")
        await back_on(pilot, ChoosingScreen)
        await pilot.press("a", "escape")
        await back_on(pilot, RunsScreen)
        await until(pilot, lambda: "step" in titles(pilot))


async def test_a_baseline_is_marked_and_others_are_held_against_it(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await until(pilot, lambda: len(names(pilot)) == 4)
        pilot.app.screen.query_one("#runs", Table).move_to(names(pilot).index("pubmedqa-lora-64"))
        await until(pilot, lambda: line(pilot, "detail").startswith("pubmedqa-lora-64"))
        await pilot.press("B")
        await until(pilot, lambda: "pubmedqa-lora-64 ★" in screen(pilot) and "vs ★" in screen(pilot))
        await pilot.press("k")
        await until(pilot, lambda: "8 % worse than ★" in line(pilot, "detail"))
        assert "from ★ pubmedqa-lora-64" in line(pilot, "detail")
        await pilot.press("j", "B")
        await until(pilot, lambda: "no baseline any more" in last_line(pilot))
        await until(pilot, lambda: "vs ★" not in screen(pilot))


async def test_a_run_of_which_no_validation_is_known_cannot_be_a_baseline(four: Example) -> None:
    with four.session.ledger.transaction() as connection:
        connection.execute("UPDATE run SET comparable = ''")
    async with WorkbenchApp(four.session).run_test() as pilot:
        await until(pilot, lambda: len(names(pilot)) == 4)
        await pilot.press("B")
        await until(pilot, lambda: "cannot be a baseline" in last_line(pilot))


async def test_tags_are_typed_shown_and_refused_where_they_cannot_be(four: Example) -> None:
    run = four.runs["pubmedqa-lora-16"]
    async with WorkbenchApp(four.session).run_test() as pilot:
        await until(pilot, lambda: len(names(pilot)) == 4)
        await pilot.press("T", *"paper, good", "enter")
        await until(pilot, lambda: "tags     good, paper" in line(pilot, "detail"))
        assert labels.tags(four.session.ledger, run) == ("good", "paper")
        await pilot.press("T", *[*" 'x"], "enter")
        await until(pilot, lambda: "cannot be a tag" in last_line(pilot))
        assert labels.tags(four.session.ledger, run) == ("good", "paper")
        await pilot.press("slash", *"tag:paper", "enter")
        await until(pilot, lambda: names(pilot) == ["pubmedqa-lora-16"])


async def test_archived_runs_leave_the_table_and_come_back(four: Example) -> None:
    async with WorkbenchApp(four.session).run_test() as pilot:
        await until(pilot, lambda: len(names(pilot)) == 4)
        await pilot.press("A")
        await until(pilot, lambda: len(names(pilot)) == 3 and "1 archived" in line(pilot, "filter"))
        await pilot.press("slash", *"archived=yes", "enter")
        await until(pilot, lambda: names(pilot) == ["pubmedqa-lora-16"])
        await pilot.press("A", "escape")
        await until(pilot, lambda: len(names(pilot)) == 4)


@pytest.mark.parametrize(
    ("keys", "kind", "words"),
    [
        (("enter",), AboutScreen, "pubmedqa-lora-16"),
        (("d",), DiffScreen, "method.rank"),
        (("O",), OverlayScreen, "pubmedqa-lora-16"),
        (("space", "space", "O"), OverlayScreen, "pubmedqa-lora-64"),
        (("i",), WhyScreen, "validation/loss"),
    ],
)
async def test_what_opens_from_a_run_and_esc_goes_back(
    four: Example, keys: tuple[str, ...], kind: type[Screen[Any]], words: str
) -> None:
    async with WorkbenchApp(four.session).run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: len(names(pilot)) == 4 and line(pilot, "detail"))
        await pilot.press(*keys)
        await back_on(pilot, kind)
        await until(pilot, lambda: words in screen(pilot))
        await pilot.press("escape")
        await back_on(pilot, RunsScreen)


async def test_z_gives_the_table_the_whole_width_for_more_settings(many: Session) -> None:
    async with WorkbenchApp(many).run_test(size=(140, 40)) as pilot:
        await ready(pilot)
        before = len(titles(pilot))
        await pilot.press("z")
        await until(pilot, lambda: len(titles(pilot)) > before)
        await pilot.press("z")
        await until(pilot, lambda: len(titles(pilot)) == before)


async def test_a_filter_is_completed_and_its_typo_pointed_at(many: Session) -> None:
    async with WorkbenchApp(many).run_test(size=(100, 30)) as pilot:
        await ready(pilot)
        await pilot.press("slash", *"tag:medi", "tab")
        tagged = {row.name for row in table.read(many.ledger).rows if "medical" in row.tags}
        await until(pilot, lambda: set(names(pilot)) == tagged)
        await pilot.press(*" stat=fin")
        await until(pilot, lambda: "did you mean state?" in screen(pilot) and "^" in screen(pilot))
        assert set(names(pilot)) == tagged, "what is understood applies"
        await pilot.press("enter")
        await until(pilot, lambda: f"{len(tagged)} of 300" in line(pilot, "filter"))


async def test_a_read_only_ledger_is_browsed_and_labels_say_why_not(many: Session) -> None:
    from engine.ledger import Ledger

    many.ledger.close()
    with Ledger.open(many.ledger.path, read_only=True) as ledger:
        session = Session(ledger, many.runs_folder, clock=many.clock, gpus=tuple)
        async with WorkbenchApp(session).run_test(size=(120, 30)) as pilot:
            await ready(pilot)
            assert "read-only" in screen(pilot).splitlines()[0]
            for key in ("B", "A", "T", "n", "D"):  # what is typed would be lost
                await pilot.press(key)
                await until(pilot, lambda: "is open read-only" in last_line(pilot) and "✗" in last_line(pilot))
                await pilot.press("k")  # any key takes the words away
                await until(pilot, lambda: "read-only" not in last_line(pilot))
            await pilot.press("slash", *"state=fail", "enter")
            await until(pilot, lambda: names(pilot) and len(names(pilot)) < 300)


@pytest.mark.parametrize("runs_there", [1, 3])
@pytest.mark.parametrize("keys", ["<", ">", "r", "(", ")", "c", "d", "O", "i", "z", "A", "U", "B", "space D", "enter"])
async def test_few_runs_break_nothing(ledger: Any, tmp_path: Path, runs_there: int, keys: str) -> None:
    fill(ledger, tmp_path / "runs", runs_there, now=NOW)
    named = {"<": "less_than_sign", ">": "greater_than_sign", "(": "left_parenthesis", ")": "right_parenthesis"}
    session = Session(ledger, tmp_path / "runs", clock=lambda: NOW, gpus=tuple)
    async with WorkbenchApp(session).run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press(*(named.get(key, key) for key in keys.split()))
        await pilot.pause(0.1)
        assert len(runs.listed(ledger)) == runs_there
        assert "Traceback" not in screen(pilot)


@pytest.mark.parametrize("size", [(80, 24), (160, 48)], ids=["80x24", "160x48"])
def test_picture(many: Session, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    async def grouped(pilot: Pilot[None]) -> None:
        await ready(pilot)
        await pilot.press("B", "left_parenthesis")
        await until(pilot, lambda: any(item.row is None for item in items(pilot)) and "vs ★" in titles(pilot))
        await pilot.press("j", "enter")
        await until(pilot, lambda: any(item.row and item.group for item in items(pilot)))
        await until(pilot, lambda: line(pilot, "detail").startswith("sweep"))
        pilot.app.screen._last_line.unsay()  # type: ignore[attr-defined]

    assert snap_compare(WorkbenchApp(many), terminal_size=size, run_before=grouped)
