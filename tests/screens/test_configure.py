"""Configure: a preset becomes a draft, values are checked while typed, the verdict comes, a file and a run are made of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Input

from engine.errors import Problem
from engine.fit.ladder import Rung
from engine.gpu import Gpu
from engine.ledger import Ledger, runs
from engine.ledger.states import LIVE
from engine.profile_fields import sections
from engine.profile_file import read, updated
from screens.configure import draft, fields, form
from screens.configure.fields import typed
from screens.messages import ConfigureFrom
from screens.session import Session
from screens.widgets.last_line import LastLine, Words
from screens.widgets.table import Table
from tests.screens.configuring import Stage, enter_wrong, go_to, opened, screen, text, type_over, working_folder
from tests.screens.driving import until

PATIENCE = 60.0  # seconds for what takes one
GPU = Gpu("GPU-aaaaaaaa", 0, "GeForce RTX 4090", total_mib=24_564.0, used_mib=564.0, free_mib=24_000.0)


@pytest.fixture
def here(tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with data and a profile."""
    monkeypatch.chdir(working_folder(tmp_path / "here", tiny_base))
    return tmp_path / "here"


@pytest.fixture
def session(ledger: Ledger, tmp_path: Path) -> Session:
    return Session(ledger, tmp_path / "runs", gpus=lambda: ())


async def test_begins_with_presets_and_opens_one(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: bool(pilot.app.screen.query("#presets")))
        table: Table[object] = screen(pilot).query_one("#presets", Table)
        await until(pilot, lambda: any(getattr(row, "name", "") == "tiny.toml" for row in table.rows))
        names = [getattr(row, "name", "") for row in table.rows]
        assert {"pubmedqa", "speech-analysis", "healthcare-instructions"} <= set(names)
        table.move_to(names.index("tiny.toml"))
        await pilot.press("enter")
        await until(pilot, lambda: "runs on the CPU" in text(pilot, "#verdict"))
        assert "tiny.toml, nothing changed" in text(pilot, "#file")
        assert "24/8/0 rows of" in text(pilot, "#file")


async def test_a_value_is_checked_while_it_is_typed_and_a_wrong_one_is_not_taken(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        await go_to(pilot, "method.rank")
        await pilot.press("enter")
        await type_over(pilot, "4000")
        await until(pilot, lambda: "1024" in text(pilot, "#about"))
        await enter_wrong(pilot)  # still open, nothing lost
        assert screen(pilot).draft.values["method"]["rank"] == 4
        await type_over(pilot, "64")
        await until(pilot, lambda: "✗" not in text(pilot, "#about"))
        await pilot.press("enter")
        await until(pilot, lambda: screen(pilot).draft.values["method"]["rank"] == 64)
        await until(pilot, lambda: "1 value differs" in text(pilot, "#file"))


async def test_choices_cycle_and_every_change_can_be_taken_back(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        before = screen(pilot).draft.text
        await go_to(pilot, "training.schedule")
        await pilot.press("enter")
        await until(pilot, lambda: screen(pilot).draft.values["training"]["schedule"] == "linear")
        await pilot.press("enter")
        await until(pilot, lambda: screen(pilot).draft.values["training"]["schedule"] == "constant")
        await pilot.press("ctrl+u", "ctrl+u")
        await until(pilot, lambda: screen(pilot).draft.text == before)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: screen(pilot).draft.values["training"]["schedule"] == "linear")
        assert screen(pilot).draft.text.startswith("# my own")


async def test_esc_leaves_a_value_as_it_was(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        await go_to(pilot, "training.epochs")
        await pilot.press("enter")
        await type_over(pilot, "9")
        await pilot.press("escape")
        await until(pilot, lambda: not screen(pilot).query_one(LastLine).busy)
        assert not screen(pilot).draft.changed


async def test_what_does_not_go_together_is_the_verdict(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        screen(pilot)._change(screen(pilot).draft.with_value("training.effective_batch", 5))
        await until(pilot, lambda: "not a multiple" in text(pilot, "#verdict"))
        await pilot.press("R")
        await until(pilot, lambda: "not a multiple" in screen(pilot).query_one(Words).content.plain)
        await go_to(pilot, "training.effective_batch")
        assert "not a multiple" in text(pilot, "#about")
        await pilot.press("L")
        assert text(pilot, "#about").startswith("A value is wrong")


async def test_missing_data_are_the_verdict_and_the_form_stays(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        screen(pilot)._change(screen(pilot).draft.with_value("data.0.source", "gone.jsonl"))
        await until(pilot, lambda: "gone.jsonl" in text(pilot, "#verdict"))
        await pilot.press("ctrl+u")
        await until(pilot, lambda: "runs on the CPU" in text(pilot, "#verdict"))


async def test_a_preset_whose_data_are_not_here_asks_for_them(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: bool(pilot.app.screen.query("#presets")))
        await until(pilot, lambda: bool(screen(pilot).query_one("#presets", Table).rows))
        await pilot.press("enter")
        await until(pilot, lambda: "comes without its data" in screen(pilot).query_one(Words).content.plain)
        assert getattr(screen(pilot).query_one("#form", Table).selected, "key", "") == "data.0.source"
        await until(pilot, lambda: "There is no file" in text(pilot, "#verdict"))


async def test_a_change_is_not_thrown_away_unasked(session: Session, here: Path) -> None:
    (here / "other.toml").write_text((here / "tiny.toml").read_text())
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        screen(pilot)._change(screen(pilot).draft.with_value("method.rank", 8))
        for answer, name in (("n", "tiny.toml"), ("y", "other.toml")):
            screen(pilot).receive(ConfigureFrom(here / "other.toml"))
            await until(pilot, lambda: screen(pilot).query_one(LastLine).busy)
            await pilot.press(answer)
            await until(pilot, lambda wanted=name: screen(pilot).draft.name == wanted)  # type: ignore[misc]
        assert not screen(pilot).draft.changed


async def test_saved_as_another_file_it_means_the_same(session: Session, here: Path, tmp_path: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        screen(pilot)._change(screen(pilot).draft.with_value("method.rank", 8))
        (tmp_path / "else").mkdir()
        await pilot.press("w")
        await type_over(pilot, "../else/copy")
        await pilot.press("enter")
        await until(pilot, lambda: "copy.toml, nothing changed" in text(pilot, "#file"))
    saved = read(tmp_path / "else" / "copy.toml")
    assert saved.data[0].source == str(here / "rows.jsonl")
    assert saved.method.rank == 8
    assert read(here / "tiny.toml").method.rank == 4


async def test_views_of_the_file_and_of_what_changed(session: Session, here: Path) -> None:
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        screen(pilot)._change(screen(pilot).draft.with_value("method.rank", 8))
        await pilot.press("v")
        await until(pilot, lambda: "# my own" in text(pilot, "#lines"))
        await pilot.press("d")
        await until(pilot, lambda: {"-rank = 4", "+rank = 8"} <= set(text(pilot, "#lines").splitlines()))
        await pilot.press("escape")
        await until(pilot, lambda: screen(pilot).focused is screen(pilot).query_one("#form"))


async def test_the_estimate_is_for_the_gpu_that_auto_would_take(session: Session, here: Path) -> None:
    lit = replace(session, gpus=lambda: (replace(GPU, index=1, uuid="GPU-b", free_mib=300.0), GPU))
    for size in ((80, 24), (160, 48)):
        async with Stage(lit).run_test(size=size) as pilot:
            await opened(pilot, here / "tiny.toml")
            await until(pilot, lambda: "fits gpu0 RTX 4090, 2" in text(pilot, "#verdict"))
            told = text(pilot, "#beside").splitlines()
            assert told[0].startswith("gpu0 RTX 4090") and told[0].endswith("✓")
            assert any(line.startswith("gpu1 RTX 4090") and line.endswith("✗") for line in told)
            assert any("W weights" in line for line in told)


async def test_any_kind_of_gpu_can_be_tried_and_a_typo_is_told(session: Session, here: Path) -> None:
    async with Stage(replace(session, gpus=lambda: (GPU,))).run_test(size=(120, 40)) as pilot:
        await opened(pilot, here / "tiny.toml")
        await pilot.press("u")
        await type_over(pilot, "H20O")
        await until(pilot, lambda: "did you mean H200?" in text(pilot, "#about"))
        await enter_wrong(pilot)
        await type_over(pilot, "h200")
        await pilot.press("enter")
        await until(pilot, lambda: "fits H200 (not here)" in text(pilot, "#verdict"))
        assert not screen(pilot).draft.changed
        await until(pilot, lambda: not screen(pilot).query_one(LastLine).busy)
        await pilot.press("u")
        await type_over(pilot, "0")
        await pilot.press("enter")
        await until(pilot, lambda: "fits gpu0 RTX 4090" in text(pilot, "#verdict"))
        assert screen(pilot).draft.values["hardware"]["gpus"] == [0]


async def test_what_does_not_fit_is_started_only_on_purpose(session: Session, here: Path) -> None:
    full = replace(session, gpus=lambda: (replace(GPU, free_mib=300.0),))
    async with Stage(full).run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        await until(pilot, lambda: "does not fit" in text(pilot, "#verdict"))
        await pilot.press("R")
        await until(pilot, lambda: screen(pilot).query_one(LastLine).busy)
        await pilot.press("n")
        await until(pilot, lambda: not screen(pilot).query_one(LastLine).busy)
        await pilot.press("L")
        ladder: Table[Rung] = screen(pilot).query_one("#ladder", Table)
        await until(pilot, lambda: ladder.has_focus and ladder.rows)
    assert runs.listed(session.ledger) == []


async def test_what_a_person_may_not_want_is_asked_before_the_start(session: Session, here: Path) -> None:
    pairs = [{"prompt": f"Question {n}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(32)]
    (here / "rows.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    loss = {"training.objective": "dpo", "training.learning_rate": 0.01, "data.0.columns": {}}
    (here / "tiny.toml").write_text(updated((here / "tiny.toml").read_text(), loss))
    stage = Stage(session)
    async with stage.run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        await until(pilot, lambda: "is high for dpo" in text(pilot, "#beside"))
        await pilot.press("R")
        await type_over(pilot, "mine")
        await pilot.press("enter")
        words = screen(pilot).query_one(Words)
        await until(pilot, lambda: "is high for dpo" in words.content.plain and "all the same?" in words.content.plain)
        await pilot.press("n")
        await until(pilot, lambda: not screen(pilot).query_one(LastLine).busy)
    assert runs.listed(session.ledger) == [] and not stage.watched


async def test_what_has_no_estimate_says_so_and_a_name_says_nothing_twice(session: Session, here: Path) -> None:
    (here / "tiny-dpo.toml").write_text(
        updated((here / "tiny.toml").read_text(), {"training.objective": "dpo", "data.0.source": "gone.jsonl"})
    )
    async with Stage(session).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: bool(pilot.app.screen.query("#form")))
        screen(pilot).receive(ConfigureFrom(here / "tiny-dpo.toml"))
        await until(pilot, lambda: "There is no file" in text(pilot, "#verdict"))
        await pilot.press("L")
        await until(pilot, lambda: text(pilot, "#about").startswith("There is no estimate yet"))
        await pilot.press("R")
        await until(pilot, lambda: screen(pilot).query_one(LastLine).busy)
        assert screen(pilot).query_one(LastLine).query_one(Input).value.startswith("tiny-dpo-lora-")


def lines(source: str, path: Path) -> dict[str, tuple[str, str]]:
    """The form of a profile without sections: each value's cell and what stands beside it."""
    rows = form.rows(draft.from_text(source, path, "x"), frozenset(), {})
    cells = {row.key: row.cells for row in rows if row.field}
    return {key: tuple(cell if isinstance(cell, str) else cell[0] for cell in each[1:]) for key, each in cells.items()}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("said", "there", "gone"),
    [
        (
            'method.name = "lora"',
            "method.rank method.alpha method.dora method.bias method.targets",
            "method.virtual_tokens",
        ),
        (
            'method.name = "ia3"',
            "method.targets method.modules_to_save",
            "method.rank method.dropout method.virtual_tokens",
        ),
        (
            'method.name = "p_tuning"',
            "method.virtual_tokens",
            "method.rank method.targets training.packing training.row_tokens",
        ),
        ('method.name = "full"', "training.learning_rate", "method.rank method.targets method.virtual_tokens"),
        ('training.objective = "dpo"', "training.beta training.length_normalised", "training.loss_on"),
        ('training.objective = "orpo"', "training.beta", "training.loss_on training.length_normalised"),
        ("", "training.loss_on training.row_tokens training.epochs", "training.beta model.double_quantization"),
        ("training.packing = false", "training.packing", "training.row_tokens"),
        ("training.max_steps = 5", "training.max_steps", "training.epochs"),
        ('model.quantization = "nf4"', "model.double_quantization", ""),
        ('hardware.device = "cpu"', "hardware.device", "hardware.gpus hardware.headroom_mib"),
    ],
)
def test_what_means_nothing_for_the_method_or_objective_is_left_out(
    said: str, there: str, gone: str, tmp_path: Path
) -> None:
    shown = lines(said, tmp_path / "x.toml").keys()
    assert shown >= set(there.split())
    assert not shown & set(gone.split())


def test_what_the_file_sets_for_nothing_is_shown_and_says_so(tmp_path: Path) -> None:
    shown = lines('method = { name = "ia3", rank = 8 }\ntraining = { max_steps = 5, epochs = 2 }', tmp_path / "x.toml")
    assert shown["method.rank"] == ("8", "only with method.name = lora")
    assert shown["training.epochs"] == ("2", "not used while training.max_steps is set")


def test_every_method_and_objective_is_a_choice_of_the_form() -> None:
    known = {field.key: field.choices for section in sections({}) for field in section.fields}
    assert known["method.name"] == ("full", "lora", "ia3", "prefix", "p_tuning", "prompt_tuning")
    assert known["training.objective"] == ("sft", "pretrain", "dpo", "orpo")
    assert known["model.quantization"] == ("none", "nf4", "fp4", "int8")


async def test_a_run_is_started_and_monitor_is_asked_for(session: Session, here: Path) -> None:
    stage = Stage(session)
    async with stage.run_test(size=(80, 24)) as pilot:
        await opened(pilot, here / "tiny.toml")
        await pilot.press("R")
        await type_over(pilot, "mine")
        await pilot.press("enter")
        await until(pilot, lambda: bool(stage.watched))
    (run,) = runs.listed(session.ledger)
    assert (run.uid, run.name) == (stage.watched[0], "mine")
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while runs.find(session.ledger, run.uid).state in LIVE and loop.time() < end:
        await asyncio.sleep(0.05)
    assert runs.find(session.ledger, run.uid).state == "finished"


def test_every_value_of_a_profile_is_in_the_form_with_its_meaning() -> None:
    from engine.profile import Data, Profile, flat

    profile = Profile.model_validate({"model": {"base": "x"}, "data": [{"source": "y"}, {"source": "z"}]})
    known = {field.key: field for section in sections(profile.model_dump()) for field in section.fields}
    wanted = {key for key in flat(profile) if key != "title"} - {"training.early_stopping"}
    assert wanted <= known.keys()
    assert all(field.about for field in known.values())
    assert known["method.rank"].bounds == "1 to 1,024"
    assert known["training.schedule"].choices == ("cosine", "linear", "constant")
    assert {f"data.1.{name}" for name in Data.model_fields} <= known.keys()


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("method.rank", "8", 8),
        ("training.learning_rate", "1e-4", 1e-4),
        ("training.micro_batch", "auto", "auto"),
        ("method.targets", "q_proj, v_proj", ["q_proj", "v_proj"]),
        ("method.targets", "all-linear", "all-linear"),
        ("hardware.gpus", "0", [0]),
        ("model.revision", "2024", "2024"),
        ("split.test", "0.2", 0.2),
        ("split.test", "ids.json", "ids.json"),
        ("training.early_stopping.patience", "off", None),
        ("data.0.columns", 'instruction = "Q", response = "A"', {"instruction": "Q", "response": "A"}),
        ("training.max_steps", "", None),
    ],
)
def test_what_is_typed_means_what_it_says(key: str, given: str, value: object) -> None:
    field = next(field for section in sections({}) for field in section.fields if field.key == key)
    assert typed(field, given) == value
    assert value is None or typed(field, fields.editable(field, value)) == value


def test_a_file_that_is_no_profile_is_refused_and_a_wrong_value_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[model\n")
    with pytest.raises(Problem, match="not TOML"):
        draft.from_file(path, own=True)
    path.write_text("method = 3\n")
    with pytest.raises(Problem, match="method is not a table"):
        draft.from_file(path, own=True)
    path.write_text('[model]\nbase = "x"\n[[data]]\nsource = "y"\n[method]\nrank = -1\n')
    assert "method.rank" in draft.from_file(path, own=True).problems()


def test_a_typed_file_name_is_found_from_the_working_folder_too(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine.jsonl").touch()
    begun = draft.from_text('[[data]]\nsource = "x.jsonl"\n', tmp_path / "shipped" / "p.toml", "p")
    for name, source in (("mine.jsonl", str(tmp_path / "work" / "mine.jsonl")), ("none.jsonl", "none.jsonl")):
        changed = begun.with_file_name("data.0.source", name, tmp_path / "work")
        assert draft.lookup(changed.values, "data.0.source") == source
