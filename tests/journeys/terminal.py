"""A real pseudo-terminal with a program in it, and a screen that can be read (ptyprocess and pyte)."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import pyte
from ptyprocess import PtyProcess

DEADLINE: Final = 60.0  # seconds that anything may take on a busy machine
LOOK: Final = (
    0.02  # seconds between two looks. They are counted, not the time: a machine that stood still gave nobody time
)
# Sequences of newer terminals that pyte would print: keyboard protocol, in-band resize and the like.
UNKNOWN: Final = re.compile(rb"\x1b\[[<=>][0-9;:]*[A-Za-z]|\x1b\[\?[0-9;]*\$[a-z]|\x1b[P_^X].*?\x1b\\", re.DOTALL)
UNFINISHED: Final = re.compile(rb"\x1b[^A-Za-z]{0,40}\Z")


class Terminal:
    """A program in a terminal of `rows` by `columns` cells. A context manager: leaving it kills what is still there."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        rows: int = 24,
        columns: int = 80,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._held = b""
        self._open = True
        self.sent = 0
        """Bytes that the program has written to the terminal."""
        self.full_screen = False
        """Whether the program has put what was there before aside (pyte does not know the alternate screen)."""
        self._process = PtyProcess.spawn(
            list(arguments),
            cwd=str(folder) if folder else None,
            env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONFAULTHANDLER": "1"}
            | dict(environment or {}),
            dimensions=(rows, columns),  # set before the program starts
        )
        os.set_blocking(self._process.fd, False)

    @property
    def pid(self) -> int:
        """The program's process id."""
        return int(self._process.pid)

    def fileno(self) -> int:
        """What to select on."""
        return int(self._process.fd)

    @property
    def lines(self) -> list[str]:
        """What is on screen, a line of full width each."""
        self.read()
        return list(self._screen.display)

    @property
    def text(self) -> str:
        """What is on screen, without the blanks at the end of lines."""
        return "\n".join(line.rstrip() for line in self.lines)

    def read(self) -> int:
        """Take in what the program has written since; returns how many bytes that were."""
        before = self.sent
        while self._open:
            try:
                data = os.read(self._process.fd, 65536)
            except BlockingIOError:
                break
            except OSError:  # EIO: nobody has the other side open any more
                break
            if not data:
                break
            self.sent += len(data)
            data = self._held + data
            for switch in re.findall(rb"\x1b\[\?1049([hl])", data):
                self.full_screen = switch == b"h"
            unfinished = UNFINISHED.search(data)
            self._held = unfinished[0] if unfinished else b""
            self._stream.feed(UNKNOWN.sub(b"", data[: len(data) - len(self._held)]))
        return self.sent - before

    def press(self, keys: str) -> None:
        """Type keys, as the bytes that a terminal sends."""
        data = keys.encode()
        while data:
            try:
                data = data[os.write(self._process.fd, data) :]
            except BlockingIOError:
                time.sleep(0.01)

    def answer(self, prompt: str, text: str) -> None:
        """Once there is a prompt, put `text` in place of what stands there, and enter it when it is seen."""
        self.until(prompt)
        self.press("\x15")
        self.settled(0.1)
        self.press(text)
        self.until(f"{prompt} *{re.escape(text)}")
        self.press("\r")

    def until(self, wanted: str | Callable[[str], object], within: float = DEADLINE) -> str:
        """The screen's text once it holds `wanted` (a regular expression, or a predicate).

        Raises:
            AssertionError: it does not within so many seconds, or the program has ended; with the last screen.
        """
        for _ in range(round(within / LOOK)):
            text = self.text
            if re.search(wanted, text) if isinstance(wanted, str) else wanted(text):
                return text
            ended = not self.alive()
            assert not ended or self.read(), f"the program ended before {wanted!r} was seen:\n{text}"
            time.sleep(LOOK)
        raise AssertionError(f"{wanted!r} was not seen within {within} s:\n{self.text}\n{self._threads()}")

    def _threads(self) -> str:
        """Where each thread of a program that hangs stands, as its faulthandler says when it is aborted."""
        os.kill(self.pid, signal.SIGABRT)
        said = b""
        for _ in range(round(5 / LOOK)):
            time.sleep(LOOK)
            try:
                said += os.read(self._process.fd, 65536)
            except BlockingIOError:
                continue
            except OSError:
                break
        return said.decode(errors="replace")

    def settled(self, quiet: float = 0.4, within: float = DEADLINE) -> str:
        """The screen's text once nothing was written for `quiet` seconds."""
        last = time.monotonic()
        for _ in range(round(within / LOOK)):
            if time.monotonic() - last >= quiet:
                break
            if self.read():
                last = time.monotonic()
            time.sleep(LOOK)
        return self.text

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size; the program hears of it (SIGWINCH)."""
        self._screen.resize(rows, columns)
        self._process.setwinsize(rows, columns)

    def alive(self) -> bool:
        """Whether the program runs."""
        return bool(self._process.isalive())

    def wait(self, within: float = DEADLINE) -> int | None:
        """Wait for the program to end; its exit status, or minus the signal that ended it."""
        looks = round(within / LOOK)
        while self.alive():
            self.read()
            assert looks, f"it did not end within {within} s:\n{self.text}\n{self._threads()}"
            looks -= 1
            time.sleep(LOOK)
        if self._process.signalstatus is not None:
            return -int(self._process.signalstatus)
        return self._process.exitstatus  # type: ignore[no-any-return]

    def close_window(self) -> None:
        """What a killed terminal emulator or a lost connection leaves: the kernel hangs up on the program's session."""
        if self._open:
            self._open = False
            self._process.fileobj.close()

    def kill(self) -> None:
        """SIGKILL the program alone."""
        os.kill(self.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive():
            self.kill()
        self.close_window()
