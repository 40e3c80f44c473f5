"""SIGTERM and SIGINT, heard by work that stops where nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stopping(at_once: str | None) -> Iterator[threading.Event]:
    """An event that the first signal sets; `at_once` None: no other does more. Only a process's main thread hears signals; in another it is never set.

    Raises:
        KeyboardInterrupt: there was a second signal; `at_once` says what that means.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def signalled(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set() and at_once is not None:
            raise KeyboardInterrupt(at_once)
        stop.set()

    stood = {number: signal.signal(number, signalled) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in stood.items():
            signal.signal(number, handler)
