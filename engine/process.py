"""What each process of the engine does first: where its words go, which signals it hears, and whose end is its own."""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
import warnings
from typing import Final

PARENT: Final = "WORKBENCH_PARENT"  # names the process without which one must not go on
DIE_WITH_PARENT: Final = 1  # PR_SET_PDEATHSIG of prctl(2)


def listen(who: str = "") -> None:
    """Log to stderr, which is the job's log; outlive the terminal; let SIGTERM stop like Ctrl-C until the work listens itself."""
    layout = f"%(asctime)s {who + ' ' if who else ''}%(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=layout, force=True)
    for chatty in ("httpx", "bitsandbytes"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    warnings.simplefilter("ignore", FutureWarning)  # between libraries; nothing that a user of ours could change
    faulthandler.enable()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def be_deaf() -> None:
    """Hear no signal that can be left unheard: another process hears them for this one."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def end_with_parent() -> None:
    """Be killed when the process that `PARENT` names ends, however it ends; at once where it has ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != int(os.environ[PARENT]):
        os._exit(1)


def threads() -> int:
    """How many threads a process computes with: OMP_NUM_THREADS, or the CPUs that it may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else len(os.sched_getaffinity(0))
