"""Configure's lists and pages: a model is picked, another trainer's configuration begun from, a value explained, the file read beside the form."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from engine.bases import Base
from engine.errors import Problem
from engine.gpu import Gpu
from engine.hub import Download
from engine.ledger import Ledger
from engine.profile_file import dump
from screens.configure import models
from screens.configure.models import Choice
from screens.configure.picking import PickingPage
from screens.messages import ConfigureFrom
from screens.session import Session
from screens.widgets import figures
from screens.widgets.last_line import LastLine
from screens.widgets.table import Table
from tests.engine.importing.test_importing import AXOLOTL_QLORA
from tests.screens.configuring import Stage, go_to, screen, type_over
from tests.screens.driving import last_line, line, until
from tests.screens.driving import screen as seen
from tests.tiny import tiny_profile, write_rows


@pytest.fixture
def here(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a profile, its data, two models and another trainer's configuration."""
    folder = tmp_path / "here"
    rows = write_rows(folder / "rows.jsonl", 32)
    for name in ("mine", "other"):
        shutil.copytree(tiny_base, folder / "models" / name)
    profile = tiny_profile(folder / "models" / "mine", rows, **{"training.max_steps": 2, "hardware.device": "auto"})
    (folder / "tiny.toml").write_text("# my own\n" + dump(profile))
    (folder / "theirs.yml").write_text(AXOLOTL_QLORA)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def session(ledger: Ledger, tmp_path: Path) -> Session:
    return Session(ledger, tmp_path / "runs", gpus=lambda: ())


async def opened(pilot: Pilot[None], path: Path) -> PickingPage:
    await until(pilot, lambda: bool(pilot.app.screen.query("#form")))
    page = screen(pilot)
    page.receive(ConfigureFrom(path))
    await until(pilot, lambda: page.draft is not None and bool(page.query_one("#form", Table).rows))
    return page


def names(pilot: Pilot[None]) -> list[str]:
    table: Table[Choice] = pilot.app.screen.query_one("#models", Table)
    return [choice.name for choice in table.rows]


async def listed(pilot: Pilot[None]) -> None:
    """The models, as enter on the base brings them."""
    page = screen(pilot)
    page._folded = frozenset()
    page._draw()
    await go_to(pilot, "model.base")
    await pilot.press("enter")
    await until(pilot, lambda: len(names(pilot)) > 3)


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
async def test_a_model_is_picked_from_what_is_here_and_can_be_taken_back(
    session: Session, here: Path, size: tuple[int, int]
) -> None:
    async with Stage(session).run_test(size=size) as pilot:
        page = await opened(pilot, here / "tiny.toml")
        await listed(pilot)
        table: Table[Choice] = page.query_one("#models", Table)
        assert table.selected is not None and table.selected.name == str(here / "models" / "mine")
        await until(pilot, lambda: "✓ on this machine" in line(pilot, "about"))
        assert "a chat template" in line(pilot, "about")
        await pilot.press("/", *"other", "enter")
        await until(pilot, lambda: names(pilot)[0] == str(here / "models" / "other"))
        await until(pilot, lambda: not page.query_one(LastLine).busy)
        await pilot.press("enter")
        await until(
            pilot,
            lambda: page.draft is not None and page.draft.values["model"]["base"] == str(here / "models" / "other"),
        )  # type: ignore[index]
        await until(pilot, lambda: page.focused is page.query_one("#form"))
        await pilot.press("ctrl+u")
        await until(pilot, lambda: page.draft is not None and not page.draft.changed)


async def test_what_is_not_in_the_list_can_be_typed_there(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        page = await opened(pilot, here / "tiny.toml")
        await listed(pilot)
        await pilot.press("/", *"org/some-model", "enter")
        await until(pilot, lambda: names(pilot) == ["org/some-model"] and not page.query_one(LastLine).busy)
        await until(pilot, lambda: "the hub is switched off" in line(pilot, "about"))
        await pilot.press("enter")
        await until(pilot, lambda: page.draft is not None and page.draft.values["model"]["base"] == "org/some-model")  # type: ignore[index]
        await listed(pilot)
        await pilot.press("G", "enter")
        await type_over(pilot, "a-third")
        await pilot.press("enter")
        await until(pilot, lambda: page.draft is not None and page.draft.values["model"]["base"] == "a-third")  # type: ignore[index]


async def test_esc_leaves_the_list_as_the_search_before_it(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        page = await opened(pilot, here / "tiny.toml")
        await listed(pilot)
        before = names(pilot)
        await pilot.press("/", *"gemma")
        await until(pilot, lambda: all("gemma" in name for name in names(pilot)))
        await pilot.press("escape")
        await until(pilot, lambda: names(pilot) == before and not page.query_one(LastLine).busy)
        await pilot.press("escape")
        await until(pilot, lambda: page.focused is page.query_one("#form"))
        assert page.draft is not None and not page.draft.changed


async def test_a_foreign_configuration_is_a_preset_and_says_what_it_left(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "theirs.yml" in seen(pilot))
        page = screen(pilot)
        await pilot.press("/", *"axolotl", "enter")
        await until(pilot, lambda: not page.query_one(LastLine).busy)
        await pilot.press("enter")
        await until(pilot, lambda: "4 keys could not be carried over" in " ".join(last_line(pilot).split()))
        await pilot.press("v")
        await until(pilot, lambda: "made_up = 3: it is not known here" in line(pilot, "lines"))
        assert page.draft is not None and page.draft.values["method"]["rank"] == 32  # type: ignore[index]
        await pilot.press("w")
        await type_over(pilot, str(here / "ours"))
        await pilot.press("enter")
        await until(pilot, lambda: (here / "ours.toml").is_file())


async def test_why_tells_what_is_usual_for_what_else_is_set(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        page = await opened(pilot, here / "tiny.toml")
        assert page.draft is not None
        page._change(page.draft.with_value("method.name", "full").with_value("training.learning_rate", 2e-4))
        await go_to(pilot, "training.learning_rate")
        await until(pilot, lambda: "This is high. Usual: full 1e-5 to 5e-5." in " ".join(line(pilot, "about").split()))
        await pilot.press("i")
        await until(pilot, lambda: "now 2e-4" in " ".join(line(pilot, "lines").split()))
        told = " ".join(line(pilot, "lines").split())
        assert "full 1e-5 to 5e-5; 2e-4 is high" in told and "arXiv:2310.16944" in told
        await pilot.press("i")
        await until(pilot, lambda: page.focused is page.query_one("#form"))


async def test_on_a_wide_screen_the_file_stands_beside_the_form_and_follows_it(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(160, 48)) as pilot:
        page = await opened(pilot, here / "tiny.toml")
        await pilot.press("v")
        await go_to(pilot, "method.rank")
        await until(pilot, lambda: "▌rank = 4" in seen(pilot))
        assert page.focused is page.query_one("#form")
        assert page.draft is not None
        page._change(page.draft.with_value("method.rank", 8))
        await until(pilot, lambda: "▌rank = 8" in seen(pilot))
        await pilot.press("v")
        await until(pilot, lambda: "▌rank = 8" not in seen(pilot))


def test_a_model_that_is_not_here_says_what_it_would_cost() -> None:
    base = Base("meta-llama/Llama-3.2-1B", "hub", "llama", "dense", 1_235_814_400, None, 131_072, gated=True)
    choice = Choice(base)
    assert [cell if isinstance(cell, str) else cell[0] for cell in models.cells(choice)] == [
        base.name,
        "1.2B",
        "",
        "dense",
        "",
        "",
        "gated",
    ]
    assert "gated: accept its terms" in models.about(choice, None, None).plain
    assert (
        "to download 2.5 GB of 2.5 GB, 70 GB are free"
        in models.about(choice, Download(base.name, "main", 2_500_000_000, 2_500_000_000), 70 * 10**9).plain
    )
    refused = Problem("It is gated", "The hub refused.", "Log in with: hf auth login")
    assert models.about(choice, refused, None).plain.endswith("! It is gated. Log in with: hf auth login.")


async def test_every_model_says_what_this_profile_would_need_with_it(session: Session, here: Path) -> None:
    gpu = Gpu("GPU-a", 0, "GeForce RTX 4090", total_mib=24_564.0, used_mib=564.0, free_mib=24_000.0)
    async with Stage(replace(session, gpus=lambda: (gpu,))).run_test(size=(80, 24)) as pilot:
        page = await opened(pilot, here / "tiny.toml")
        await until(pilot, lambda: "fits gpu0" in line(pilot, "verdict"))
        await listed(pilot)
        table: Table[Choice] = page.query_one("#models", Table)
        await until(pilot, lambda: any(choice.least for choice in table.rows))
        found = {choice.name: choice.least for choice in table.rows if choice.least}
        small, large = found["Qwen/Qwen3-0.6B"], found["meta-llama/Llama-3.3-70B-Instruct"]
        assert small.fits and not large.fits
        assert small.predicted_process_mib < large.predicted_process_mib
        table.move_to([choice.name for choice in table.rows].index("meta-llama/Llama-3.3-70B-Instruct"))
        await until(
            pilot, lambda: f"needs {figures.gib(large.predicted_process_mib)} of 23.4 GiB" in line(pilot, "about")
        )


async def test_why_on_a_sections_head_tells_what_is_in_it(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        await go_to(pilot, "training")
        await pilot.press("i")
        await until(pilot, lambda: line(pilot, "lines").startswith("Training\n"))
        told = line(pilot, "lines").splitlines()
        assert any(each.startswith("early_stopping.patience ") for each in told)
        assert max(map(len, told)) <= 78


def test_only_one_word_may_be_the_name_of_a_model() -> None:
    found = (Base("a/small", "hub"), Base("b/large", "hub"))
    assert [choice.name for choice in models.choices(found, "large b", {})] == ["b/large", ""]
    assert [choice.name for choice in models.choices(found, "b/large", {})] == ["b/large"]
    assert [choice.name for choice in models.choices(found, "c/new", {})] == ["c/new"]
