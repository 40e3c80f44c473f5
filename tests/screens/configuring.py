"""Driving Configure in tests: the screen alone on two GPUs and a model of 7B of which only the shape is here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from textual.app import App
from textual.pilot import Pilot

from engine.gpu import Gpu
from engine.profile_file import dump, updated
from screens.configure import ConfigureScreen
from screens.messages import ConfigureFrom, WatchRun
from screens.session import Room, Session
from screens.widgets.last_line import LastLine
from screens.widgets.line import Line
from screens.widgets.table import Table
from tests.screens.driving import until
from tests.tiny import tiny_profile, write_rows

RTX: Final = Gpu("GPU-aaaaaaaa", 0, "GeForce RTX 4090", total_mib=24_564.0, used_mib=564.0, free_mib=24_000.0)
T4: Final = Gpu("GPU-bbbbbbbb", 1, "Tesla T4", total_mib=15_360.0, used_mib=360.0, free_mib=15_000.0)
SEVEN: Final = "mistralai/Mistral-7B-v0.1"


class Stage(App[None]):
    """The screen alone; what it asks of others is kept."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.watched: list[str] = []

    def on_mount(self) -> None:
        self.push_screen(ConfigureScreen(self.session))

    def on_watch_run(self, message: WatchRun) -> None:
        self.watched.append(message.uid)


def working_folder(folder: Path, base: Path) -> Path:
    """A folder with data and a profile of a tiny model."""
    rows = write_rows(folder / "rows.jsonl", 32)
    anywhere = {"hardware.device": "auto", "hardware.ranks": "auto", "hardware.sharding": "auto"}
    profile = tiny_profile(base, rows, **{"training.max_steps": 2, **anywhere})
    (folder / "tiny.toml").write_text("# my own\n" + dump(profile).replace(str(rows), "rows.jsonl"))
    return folder


def on_gpus(session: Session, *gpus: Gpu) -> Session:
    """The session on a machine with these and much room."""
    return replace(session, gpus=lambda: gpus, room=lambda _: Room(412 * 10**9, 0, 1))


def seven(folder: Path, **changes: object) -> Path:
    """A profile of a 7B model, not to be had, beside `tiny.toml` and on its data: long rows, half precision, on any GPU."""
    wanted = {"model.base": SEVEN, "model.dtype": "bfloat16", "template.name": "alpaca", "template.max_tokens": 4096}
    wanted |= {"hardware.device": "auto", "training.checkpoint_activations": "auto", "training.micro_batch": "auto"}
    path = folder / "seven.toml"
    path.write_text(updated((folder / "tiny.toml").read_text(), {**wanted, **changes}))
    return path


def screen(pilot: Pilot[None]) -> ConfigureScreen:
    """The screen."""
    assert isinstance(pilot.app.screen, ConfigureScreen)
    return pilot.app.screen


def text(pilot: Pilot[None], selector: str) -> str:
    """What a line says."""
    return screen(pilot).query_one(selector, Line).content.plain


async def opened(pilot: Pilot[None], path: Path, verdict: str = "steps") -> None:
    """The form on a file, judged."""
    await until(pilot, lambda: pilot.app.screen.query("#form"))
    screen(pilot).receive(ConfigureFrom(path))
    await until(pilot, lambda: verdict in text(pilot, "#verdict"))


async def go_to(pilot: Pilot[None], key: str) -> None:
    """The cursor on a line of the form."""
    table: Table[object] = screen(pilot).query_one("#form", Table)
    table.move_to([getattr(row, "key", "") for row in table.rows].index(key))
    await pilot.pause()


async def type_over(pilot: Pilot[None], given: str) -> None:
    """Another text in place of the one that is there."""
    await until(pilot, lambda: screen(pilot).query_one(LastLine).busy)
    await pilot.press("ctrl+e", "ctrl+u", *given)


async def enter_wrong(pilot: Pilot[None]) -> None:
    """Enter on what is not taken: the prompt has closed and opened again with the same text in it."""
    last = screen(pilot).query_one(LastLine)
    before = last._typed
    assert before is not None
    await pilot.press("enter")
    await until(pilot, lambda: before.done() and last._typed not in (None, before))
