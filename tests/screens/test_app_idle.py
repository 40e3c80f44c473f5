"""At rest nothing is sent: the real program in a real pseudo-terminal, all screens opened once."""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

import ptyprocess
import pytest

from tests.screens.example import Example

SILENCE = 3.0  # seconds: longer than any of the application's own rhythms
DEADLINE = 40.0


def read_for(terminal: ptyprocess.PtyProcess, seconds: float) -> bytes:
    """What arrives within so many seconds."""
    end, got = time.monotonic() + seconds, b""
    while (left := end - time.monotonic()) > 0:
        if select.select([terminal.fd], [], [], left)[0]:
            got += os.read(terminal.fd, 65536)
    return got


def read_until(terminal: ptyprocess.PtyProcess, words: bytes) -> None:
    """Read until `words` have come."""
    end, got = time.monotonic() + DEADLINE, b""
    while words not in got:
        assert time.monotonic() < end, got[-2000:]
        got += read_for(terminal, 0.1)


@pytest.mark.parametrize("last", ["4", "1/"], ids=["monitor", "typing on runs"])
def test_at_rest_nothing_is_sent(four: Example, home: Path, last: str) -> None:
    environment = {**os.environ, "WORKBENCH_HOME": str(home), "LC_ALL": "C.UTF-8"}
    terminal = ptyprocess.PtyProcess.spawn([sys.executable, "-m", "workbench"], dimensions=(40, 120), env=environment)
    try:
        read_until(terminal, b"pubmedqa-lora-16")
        for number in (b"2", b"3", b"5", *(key.encode() for key in last)):
            terminal.write(number)
            read_for(terminal, 0.5)
        end = time.monotonic() + DEADLINE
        while got := read_for(terminal, SILENCE):
            assert time.monotonic() < end, f"it never rests: {got[-500:]!r}"
        terminal.write(b"\x11")  # ctrl+q
        end = time.monotonic() + DEADLINE
        while terminal.isalive() and time.monotonic() < end:
            try:
                read_for(terminal, 0.1)
            except OSError:  # the other end is closed
                break
        assert terminal.wait() == 0
    finally:
        terminal.close(force=True)
