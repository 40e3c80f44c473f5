"""What makes a screen whole: every line has its place, nothing is cut off, nothing lies over anything else."""

from __future__ import annotations

import re
from typing import Final

from tests.journeys.terminal import Terminal

SCREENS: Final = ("Runs", "Data", "Configure", "Monitor", "Compare")
FOLDER: Final = re.compile(r"Traceback|Error:|^\s*File \"", re.MULTILINE)


def assert_whole(terminal: Terminal, screen: str) -> str:
    """The screen called so is in front and whole; returns its text."""
    text = terminal.until(re.escape(f"[{SCREENS.index(screen) + 1} {screen}]"))
    terminal.until(r"\? help *\Z")  # a message has its time on the last line
    text = terminal.settled()
    lines = terminal.lines
    rows, columns = len(lines), len(lines[0])
    assert not FOLDER.search(text), text
    first, last = lines[0], lines[-1]
    assert first.startswith(" Workbench "), text
    tabs = re.findall(r"\[?([1-5]) (\w+)\]?", first)
    assert tabs[:5] == [(str(number), name) for number, name in enumerate(SCREENS, 1)], text
    assert f"[{SCREENS.index(screen) + 1} {screen}]" in first, text
    assert last.rstrip().endswith("? help"), text
    assert len(last.rstrip()) in (columns, columns - 1), f"the last line ends at {len(last.rstrip())}:\n{text}"
    assert re.match(r" \S", last) or last.strip() == "? help", f"the last line has no key first:\n{text}"
    assert sum("Workbench " in line and "1 Runs" in line for line in lines) == 1, text
    assert sum("? help" in line for line in lines) == 1, text
    assert sum(bool(line.strip()) for line in lines) > 4, f"hardly anything in {rows} lines:\n{text}"
    rules = [line for line in lines if set(line.strip()) == {"─"} and len(line.strip()) > columns // 2]
    assert all(len(line.rstrip()) >= columns - 1 for line in rules), f"a rule that stops short:\n{text}"
    return text


def assert_all_whole(terminal: Terminal) -> dict[str, str]:
    """All five are whole; their texts by name."""
    texts = {}
    for number, name in enumerate(SCREENS, 1):
        terminal.press(str(number))
        texts[name] = assert_whole(terminal, name)
    return texts
