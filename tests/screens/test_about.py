"""A run's page: every part says what the ledger knows, relatives open, notes are kept, and what is gone is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import TextArea

from engine.errors import Problem
from engine.fit import recorded
from engine.fit.question import Step
from engine.ledger import Ledger, artifacts, evaluations, runs
from engine.ledger.runs import Run
from screens.runs.about import AboutScreen
from screens.runs.note import NoteScreen
from tests.screens.driving import last_line, screen, until
from tests.screens.example import Example
from workbench.app import WorkbenchApp
from workbench.settings import Settings

PROFILE = 'title = "PubMedQA"  # yes or no\n\n[method]\nname = "lora"\nrank = 16\n'


@pytest.fixture
def whole(four: Example, ledger: Ledger) -> Run:
    """A run with something in every part."""
    run = four.runs["pubmedqa-lora-16"]
    with ledger.transaction() as connection:
        connection.execute("UPDATE run_document SET profile = ? WHERE run = ?", (PROFILE, run.id))
        connection.execute("UPDATE run SET parent = ? WHERE id = ?", (run.uid, four.runs["pubmedqa-lora-64"].id))
    forward = {"forward": (9100.0, 9300.0)}
    memory = recorded.kept(
        predicted=recorded.Figures("simulated", 9050.0, 9200.0, 9300.0, 400.0, {"forward": (9050.0, 9200.0)}),
        measured=recorded.Figures("driver", 9100.0, 9300.0, 9420.0, 402.0, forward),
        step=Step(4, 512, 640, packed=False, checkpointing=True, accumulates=True),
    )
    environment = {"packages": {"torch": "2.13.0"}, **memory}
    runs.record(ledger, run, environment=environment, fingerprints={"data": "ab" * 32})
    artifacts.add(ledger, run, "adapter", run.folder / "adapter/best", size=5_000_000, fingerprint="cd" * 32)
    made = evaluations.begin(
        ledger, run=run.id, model="m", model_name=run.name, suite="retention", suite_fingerprint="s", conditions="c"
    )
    evaluations.finish(ledger, made, n=262, scores={"accuracy": 0.931})
    return run


async def opened(pilot: Pilot[None], four: Example, uid: str) -> AboutScreen:
    page = AboutScreen(four.session, uid)
    pilot.app.push_screen(page)
    await until(pilot, lambda: page.query("#lines") and "progress" in screen(pilot))
    return page


async def go_to(pilot: Pilot[None], page: AboutScreen, part: str) -> None:
    names = [each.name for each in page._parts.rows]
    await pilot.press("g", *("j" for _ in range(names.index(part))))
    await until(pilot, lambda: page._part.name == part)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            "overview",
            ["● running", "52 of 84 steps", "predicted 9.1 GiB, measured 9.2 GiB, +1.3% of what was predicted"],
        ),
        (
            "memory",
            [
                "when it was started, simulated",
                "4 x 512 tokens, 640 of them supervised",
                "process 9,300 9,420 -1.3%",
                "forward reserved 9,200 9,300 -1.1%",
            ],
        ),
        ("metrics", ["validation/loss", "train/grad_norm"]),
        ("profile", ['title = "PubMedQA"  # yes or no', "rank = 16"]),
        ("versions", ["ab" * 20, "packages.torch", "2.13.0"]),
        ("jobs", ["train ● running", "process"]),
        ("events", ["gradient norm 8.1 at step 47", "! gradient"]),
        ("checkpoints", ["50", "500 MB", "★ best"]),
        ("evaluations", ["retention", "262", "accuracy .931"]),
        ("artifacts", ["adapter", "5 MB", "cdcdcdcdcdcdcdcd"]),
        (
            "lineage",
            ["data ori_pqal.json", "base Qwen/Qwen3-4B", "run pubmedqa-lora-16", "child pubmedqa-lora-64"],
        ),
    ],
)
async def test_every_part_says_what_is_known(four: Example, whole: Run, part: str, words: list[str]) -> None:
    async with WorkbenchApp(four.session).run_test(size=(110, 34)) as pilot:
        page = await opened(pilot, four, whole.uid)
        await go_to(pilot, page, part)
        for each in words:
            await until(pilot, lambda each=each: " ".join(each.split()) in " ".join(screen(pilot).split()), each)


async def test_what_is_not_there_any_more_is_said(four: Example, whole: Run) -> None:
    async with WorkbenchApp(four.session).run_test(size=(110, 34)) as pilot:
        page = await opened(pilot, four, whole.uid)
        await until(pilot, lambda: "not on this machine" in screen(pilot))
        (whole.folder / "checkpoints").mkdir(parents=True)
        await go_to(pilot, page, "checkpoints")
        await until(pilot, lambda: "checkpoints/step-000050 is gone" in screen(pilot))
        (whole.folder / "checkpoints" / "step-000050").mkdir()
        page.reread()
        await until(pilot, lambda: "is gone" not in screen(pilot))


async def test_a_relative_opens_and_esc_goes_back_run_by_run(four: Example, whole: Run) -> None:
    async with WorkbenchApp(four.session).run_test(size=(110, 34)) as pilot:
        page = await opened(pilot, four, whole.uid)
        await go_to(pilot, page, "lineage")
        await until(pilot, lambda: "child" in screen(pilot))
        await pilot.press("tab", "G", "enter")
        await until(pilot, lambda: page.chosen is not None and page.chosen.name == "pubmedqa-lora-64")
        await pilot.press("escape")
        await until(pilot, lambda: page.chosen is not None and page.chosen.name == "pubmedqa-lora-16")
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is not page)


async def test_data_of_the_lineage_is_looked_at_on_data(four: Example, whole: Run) -> None:
    async with WorkbenchApp(four.session).run_test(size=(110, 34)) as pilot:
        page = await opened(pilot, four, whole.uid)
        await go_to(pilot, page, "lineage")
        await until(pilot, lambda: "ori_pqal" in screen(pilot))
        await pilot.press("tab", "g", "enter")
        await until(pilot, lambda: getattr(pilot.app.screen, "NAME", "") == "data")


async def test_long_text_scrolls_with_the_keys_that_move(four: Example, whole: Run) -> None:
    with four.session.ledger.transaction() as connection:
        text = "\n".join(f"key_{line} = {line}" for line in range(100))
        connection.execute("UPDATE run_document SET profile = ? WHERE run = ?", (text, whole.id))
    async with WorkbenchApp(four.session).run_test(size=(80, 24)) as pilot:
        page = await opened(pilot, four, whole.uid)
        await go_to(pilot, page, "profile")
        await until(pilot, lambda: "key_0 = 0" in screen(pilot))
        await pilot.press("tab", "G")
        await until(pilot, lambda: "key_99 = 99" in screen(pilot))
        await pilot.press("g", "j")
        await until(pilot, lambda: "key_1 = 1" in screen(pilot) and "key_0 = 0" not in screen(pilot))


async def test_a_note_of_several_lines_is_kept_and_shown_as_it_is_meant(four: Example, whole: Run) -> None:
    async with WorkbenchApp(four.session).run_test(size=(130, 34)) as pilot:
        page = await opened(pilot, four, whole.uid)
        await go_to(pilot, page, "note")
        await until(pilot, lambda: "No note yet: n writes one." in screen(pilot))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NoteScreen))
        await pilot.press(*"# Rank", "enter", "enter", *"- more is *not* better")
        await until(pilot, lambda: "• more is not better" in screen(pilot), "the preview")
        await pilot.press("ctrl+o")
        await until(pilot, lambda: pilot.app.screen is page)
        await until(pilot, lambda: "• more is not better" in screen(pilot))
        assert runs.find(four.session.ledger, whole.uid).note == "# Rank\n\n- more is *not* better"


async def test_keys_of_a_note_that_come_in_one_packet_are_done_in_their_order(four: Example, whole: Run) -> None:
    async with WorkbenchApp(four.session).run_test(size=(100, 30)) as pilot:
        await opened(pilot, four, whole.uid)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NoteScreen) and pilot.app.screen.query(TextArea))
        for name, letter in (("P", "P"), ("backspace", None), ("enter", None), ("q", "q")):
            pilot.app.post_message(Key(name, letter))
        await until(pilot, lambda: pilot.app.screen.query_one(TextArea).text.endswith("q"))
        assert pilot.app.screen.query_one(TextArea).text == "\nq"


async def test_leaving_a_changed_note_asks_and_an_unchanged_one_does_not(four: Example, whole: Run) -> None:
    async with WorkbenchApp(four.session).run_test(size=(100, 30)) as pilot:
        page = await opened(pilot, four, whole.uid)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NoteScreen))
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is page)
        await pilot.press("n")
        await until(pilot, lambda: isinstance(pilot.app.screen, NoteScreen))
        await pilot.press("a", "escape")
        await until(pilot, lambda: "Leave and lose the changes to the note on pubmedqa-lora-16?" in last_line(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "Leave" not in last_line(pilot))
        assert pilot.app.screen.query_one(TextArea).text == "a", "esc to the question keeps writing"
        await pilot.press("ctrl+q")
        await until(pilot, lambda: "Leave and lose" in last_line(pilot), "leaving the application asks too")
        await pilot.press("n")
        await until(pilot, lambda: "Leave" not in last_line(pilot))
        await pilot.press("escape")
        await until(pilot, lambda: "Leave" in last_line(pilot))
        await pilot.press("y")
        await until(pilot, lambda: pilot.app.screen is page)
        assert runs.find(four.session.ledger, whole.uid).note == ""


async def test_on_a_ledger_that_may_not_be_written_a_note_is_refused_before_it_is_typed(
    four: Example, whole: Run
) -> None:
    four.session.ledger.read_only = True
    async with WorkbenchApp(four.session).run_test(size=(110, 34)) as pilot:
        page = await opened(pilot, four, whole.uid)
        assert "read-only" in screen(pilot).splitlines()[0]
        await pilot.press("n")
        await until(pilot, lambda: "✗" in last_line(pilot) and "is open read-only" in last_line(pilot))
        assert pilot.app.screen is page


async def test_scores_that_have_no_room_go_on_below(four: Example, whole: Run, ledger: Ledger) -> None:
    scores = {"accuracy": 0.848, "consistency": 0.885, "abstention": 0.975, "rouge_l": 0.512}
    made = evaluations.begin(
        ledger, run=whole.id, model="m", model_name=whole.name, suite="long", suite_fingerprint="t", conditions="c"
    )
    evaluations.finish(ledger, made, n=262, scores=scores)
    async with WorkbenchApp(four.session).run_test(size=(80, 24)) as pilot:
        page = await opened(pilot, four, whole.uid)
        await go_to(pilot, page, "evaluations")
        await until(pilot, lambda: "rouge_l .512" in screen(pilot), "all of them")
        assert "scores" in screen(pilot) and "…" not in screen(pilot)


async def test_capital_letters_act_on_the_run_and_4_watches_it(four: Example, whole: Run) -> None:
    from engine.ledger import orders

    async with WorkbenchApp(four.session).run_test(size=(110, 34)) as pilot:
        await opened(pilot, four, whole.uid)
        await pilot.press("P")
        await until(pilot, lambda: [order.verb for order in orders.waiting(four.session.ledger, whole.id)] == ["pause"])
        await pilot.press("4")
        await until(pilot, lambda: getattr(pilot.app.screen, "NAME", "") == "monitor" and whole.name in screen(pilot))


async def test_a_run_that_was_deleted_meanwhile_is_said(four: Example, whole: Run) -> None:
    async with WorkbenchApp(four.session).run_test(size=(110, 34)) as pilot:
        page = await opened(pilot, four, whole.uid)
        with four.session.ledger.transaction() as connection:
            connection.execute("DELETE FROM run WHERE id = ?", (whole.id,))
        page.reread()
        await until(pilot, lambda: "This run is no longer in the ledger." in screen(pilot))
        await pilot.press("n")
        await until(pilot, lambda: "no longer in the ledger" in last_line(pilot))


async def test_a_run_of_which_nothing_is_known_has_a_page(four: Example, tmp_path: Path) -> None:
    bare = runs.create(four.session.ledger, name="bare", runs_folder=tmp_path, profile="", settings={})
    async with WorkbenchApp(four.session).run_test(size=(80, 24)) as pilot:
        page = await opened(pilot, four, bare.uid)
        for part in [each.name for each in page._parts.rows]:
            await go_to(pilot, page, part)
        await until(pilot, lambda: "no artifacts" in screen(pilot))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=["80x24", "120x40"])
def test_picture(four: Example, snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    run = four.runs["pubmedqa-lora-16"]
    with four.session.ledger.transaction() as connection:
        connection.execute("UPDATE run SET parent = ? WHERE name = 'pubmedqa-lora-64'", (run.uid,))

    async def ready(pilot: Pilot[None]) -> None:
        page = await opened(pilot, four, run.uid)
        await go_to(pilot, page, "lineage")
        await until(pilot, lambda: "child" in screen(pilot))

    assert snap_compare(WorkbenchApp(four.session), terminal_size=size, run_before=ready)


def test_a_users_keys_may_name_the_commands_of_what_opens_over_a_screen(four: Example, tmp_path: Path) -> None:
    WorkbenchApp(four.session, Settings(runs_folder=tmp_path, keymap={"overlay.axis": "a"}, seen_places=True))
    with pytest.raises(Problem, match=r"overlay\.axes"):
        WorkbenchApp(four.session, Settings(runs_folder=tmp_path, keymap={"overlay.axes": "a"}, seen_places=True))


async def test_keys_typed_ahead_of_the_page_find_its_run(four: Example, whole: Run) -> None:
    async with WorkbenchApp(four.session).run_test(size=(110, 34)) as pilot:
        await until(pilot, lambda: whole.name in screen(pilot))
        pilot.app.post_message(Key("enter", None))
        pilot.app.post_message(Key("n", "n"))
        await until(pilot, lambda: isinstance(pilot.app.screen, NoteScreen))
