"""The main journey: configure, start, watch, lose the terminal, come back, find out what it was worth."""

from __future__ import annotations

import os
import re
from pathlib import Path

from engine import machine
from engine.profile_file import updated
from tests.journeys.place import PROGRAM, Place
from tests.journeys.terminal import Terminal
from tests.journeys.whole import assert_all_whole, assert_whole


def start_from_configure(terminal: Terminal, name: str) -> None:
    """Choose the profile in the working folder, name the run, start it."""
    terminal.press("3")
    terminal.until(r"tiny\.toml")
    terminal.press("G\r")
    terminal.until(r"Method")
    assert_whole(terminal, "Configure")
    terminal.press("R")
    terminal.answer("Name of the run", name)
    terminal.until(r"\[4 Monitor\]")


# LLaMA-Factory#8485, #8817: the page closes and training stalls.
def test_a_run_outlives_its_terminal_and_is_found_evaluated_and_compared(place: Place) -> None:
    place.profile.write_text(
        updated(place.profile.read_text(), {"training.max_steps": 500, "training.save_every": 100})
    )
    with Terminal([PROGRAM], folder=place.folder) as terminal:
        terminal.until("Workbench keeps what you do")  # the first start says where
        terminal.press("\r")
        terminal.until("No runs yet")
        start_from_configure(terminal, "journey")
        terminal.until(r"● journey .*[1-9]\d*/500")
        terminal.press("P")
        terminal.until("‖ journey")
        assert_whole(terminal, "Monitor")
        engine, application, paused_at = place.pid("journey"), terminal.pid, place.run("journey").step
        assert os.getsid(engine) != os.getsid(application), "the engine has a session of its own"
        assert re.search(rf"‖ journey .* {paused_at}/500", terminal.text)
        terminal.press("P")
        terminal.until("● journey")
        terminal.close_window()  # SIGHUP, as when the terminal is killed or the connection lost
        terminal.wait()
    place.wait("journey", lambda run: run.step > paused_at + 3)
    place.command("runs", "pause", "journey")
    place.wait("journey", lambda run: run.state == "paused")

    with Terminal([PROGRAM], folder=place.folder) as again:
        again.until(r"journey +‖ paused")
        again.kill()
    assert place.pid("journey") == engine
    assert machine.started(engine), "one engine, the same all the time"

    # Two applications at once, of different size, until it has finished.
    with (
        Terminal([PROGRAM], folder=place.folder) as small,
        Terminal([PROGRAM], folder=place.folder, rows=48, columns=160) as large,
    ):
        for terminal in (small, large):
            terminal.until(r"journey +‖ paused")
        small.press("P")
        for terminal in (small, large):
            terminal.until(r"journey +✓ finished", within=180)
        assert place.run("journey").state == "finished"
        evaluate(small)
        assert_all_whole(small)
        large.press("5")
        large.until(r"journey against its base")
        texts = assert_all_whole(large)
        assert "test acc" in texts["Compare"]
        assert re.search(r"✓ journey .*500/500", texts["Monitor"])
        small.resize(48, 160)
        assert_all_whole(small)
        large.resize(24, 80)
        assert_all_whole(large)
        for terminal in (small, large):
            terminal.press("\x11")
            assert terminal.wait() == 0
    end = place.figures("compare", "journey")
    assert {row["suite"] for row in end["rows"]} == {"test"}
    assert sorted(file.name for file in Path(place.home).iterdir() if file.name.startswith("ledger")) == [
        "ledger.db",
        "ledger.db.lock",
    ], "everybody has closed the ledger"


def evaluate(terminal: Terminal) -> None:
    """Put the rows that the run held out to it and its base."""
    terminal.press("1")
    assert_whole(terminal, "Runs")
    terminal.press("E")
    terminal.answer("suites for journey", "test")
    terminal.until(r"evaluating")
    text = terminal.until(r"journey against its base", within=180)
    assert re.search(r"test acc\.? .*\d+\.\d +\d+\.\d +\d+", text), text
