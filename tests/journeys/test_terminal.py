"""The program and its terminal: sizes, hang-ups, signals, two at once, folders with confusing names."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.journeys.place import PROGRAM
from tests.journeys.terminal import Terminal
from tests.journeys.whole import assert_all_whole, assert_whole


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (48, 160)])
def test_every_screen_is_whole_before_there_is_anything(home: Path, tmp_path: Path, rows: int, columns: int) -> None:
    with Terminal([PROGRAM], rows=rows, columns=columns, folder=tmp_path) as terminal:
        terminal.until("Workbench keeps what you do")
        terminal.press("\r")
        terminal.until("No runs yet")
        for name, text in assert_all_whole(terminal).items():
            assert any(word in text for word in ("No ", "Nothing ", "Choose ")), f"{name} says what to do:\n{text}"
        terminal.press("?")
        terminal.until("esc back")
        terminal.press("\x1b")
        assert_whole(terminal, "Compare")
        assert terminal.full_screen
        terminal.press("\x11")
        assert terminal.wait() == 0
        assert not terminal.full_screen, "the terminal is given back as it was"


@pytest.mark.parametrize("ending", ["closed", signal.SIGHUP, signal.SIGTERM])
def test_however_the_application_ends_the_ledger_is_whole_and_the_next_start_is_as_any(
    home: Path, tmp_path: Path, ending: str | signal.Signals
) -> None:
    with Terminal([PROGRAM], folder=tmp_path) as terminal:
        terminal.until("Workbench keeps what you do")
        terminal.press("\r")
        terminal.until("No runs yet")
        if isinstance(ending, signal.Signals):
            os.kill(terminal.pid, ending)
        else:
            terminal.close_window()
        terminal.wait()
    with Terminal([PROGRAM], folder=tmp_path) as terminal:
        terminal.until("No runs yet")
        assert_whole(terminal, "Runs")
        terminal.press("\x11")
        assert terminal.wait() == 0


def test_a_folder_named_engine_where_one_works_confuses_nobody(home: Path, tmp_path: Path) -> None:
    for name in ("engine", "screens", "workbench"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    with Terminal([PROGRAM], folder=tmp_path) as terminal:
        terminal.until("Workbench keeps what you do")
        terminal.press("\x11")
        assert terminal.wait() == 0


def test_ctrl_c_does_not_end_the_application_by_accident(home: Path, tmp_path: Path) -> None:
    with Terminal([PROGRAM], folder=tmp_path) as terminal:
        terminal.until("Workbench keeps what you do")
        terminal.press("\r")
        terminal.until("No runs yet")
        terminal.press("\x03")
        terminal.settled()
        assert terminal.alive()
        terminal.press("\x11")
        assert terminal.wait() == 0


def test_keys_that_come_in_one_packet_are_done_in_order(home: Path, tmp_path: Path) -> None:
    """As over a slow line: clear, type, correct, enter."""
    with Terminal([PROGRAM], folder=tmp_path) as terminal:
        terminal.until("Workbench keeps what you do")
        terminal.settled()
        terminal.press(f"\x15{tmp_path}/elsewhexx\x7f\x7fre\r")
        terminal.until("No runs yet")
    assert [folder.name for folder in tmp_path.iterdir()] == ["elsewhere"]
