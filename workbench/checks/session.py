"""What the login does to runs and to the screen: who ends processes at logout, what tmux and the terminal can show, limits, clock."""

from __future__ import annotations

import getpass
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from engine import machine
from engine.ledger import Ledger
from workbench.checks import Check

FILES: Final = 1024  # open files: shards of a large model, the ledger, the tokenizer
SHARED_MEMORY: Final = 64 << 20  # bytes: what containers get unless told otherwise
SLOW_ESCAPE: Final = 50  # milliseconds after which tmux's wait for what follows esc is felt


def check_all(ledger: Path) -> Iterator[Check]:
    """Everything about the login and its terminal."""
    yield check_logout()
    yield from check_terminal(os.environ)
    yield check_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield check_shared_memory(Path("/dev/shm"))
    yield check_memory()
    yield check_clock(ledger, time.time())


def _answer(*command: str) -> str:
    """What a program prints; nothing when it is missing, fails or hangs."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def check_logout(systemd: Path = Path("/run/systemd/system"), linger: Path = Path("/var/lib/systemd/linger")) -> Check:
    """Whether logging out ends runs: systemd's KillUserProcesses does, unless the user lingers."""
    if not systemd.is_dir():
        return Check("logout", True, "no systemd here: nothing ends your processes when you log out")
    if (linger / getpass.getuser()).exists():
        return Check("logout", True, "your processes may stay after you log out (linger is on)")
    manager = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    kills = _answer("busctl", "get-property", *manager, "KillUserProcesses")
    if kills == "b true":
        return Check("logout", False, "systemd ends your processes when you log out", "loginctl enable-linger")
    return Check(
        "logout", True, "processes stay after you log out" if kills else "systemd does not say what it ends at logout"
    )


def check_terminal(environment: Mapping[str, str]) -> Iterator[Check]:
    """Letters, colours, and what tmux passes on."""
    encoding = (sys.stdout.encoding or "").lower()
    locale = environment.get("LC_ALL") or environment.get("LC_CTYPE") or environment.get("LANG") or "none set"
    utf = "utf" in locale.lower() or (encoding.startswith("utf") and locale in ("none set", "C", "POSIX"))
    yield Check("locale", utf, locale, "" if utf else "export LC_ALL=C.UTF-8, else symbols are shown as plain letters.")
    term = environment.get("TERM", "")
    if not sys.stdout.isatty():
        yield Check("terminal", True, "none here: output goes elsewhere")
        return
    colours = (
        "16 million" if environment.get("COLORTERM") in ("truecolor", "24bit") else "256" if "256" in term else "16"
    )
    plain = term in ("", "dumb")
    yield Check(
        "terminal",
        not plain,
        f"{term or 'TERM is not set'}, {colours} colours",
        "export TERM=xterm-256color" if plain else "",
    )
    if environment.get("TMUX"):
        yield from check_tmux()


def check_tmux() -> Iterator[Check]:
    """Whether tmux passes the clipboard on and does not hold back esc."""
    clipboard = _answer("tmux", "show-options", "-gv", "set-clipboard") or _answer(
        "tmux", "show-options", "-sv", "set-clipboard"
    )
    passed = clipboard == "on"
    yield Check(
        "tmux clipboard",
        passed,
        f"set-clipboard {clipboard or 'unknown'}",
        "" if passed else "To copy with y, put `set -s set-clipboard on` into ~/.tmux.conf.",
    )
    escape = _answer("tmux", "show-options", "-sv", "escape-time")
    slow = escape.isdigit() and int(escape) > SLOW_ESCAPE
    yield Check(
        "tmux esc",
        not slow,
        f"escape-time {escape or 'unknown'} ms",
        "To make esc quick, put `set -s escape-time 10` into ~/.tmux.conf." if slow else "",
    )


def check_files(soft: int) -> Check:
    """How many files a process may open."""
    ok = soft == resource.RLIM_INFINITY or soft >= FILES
    return Check("open files", ok, "no limit" if soft < 0 else str(soft), "" if ok else f"ulimit -n {FILES}")


def check_shared_memory(folder: Path) -> Check:
    """Room in /dev/shm, which several GPUs of one machine talk through."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return Check("shared memory", False, f"there is no {folder}", "In a container, start it with --shm-size=8g.")
    free = disk.f_bavail * disk.f_frsize
    ok = free >= SHARED_MEMORY
    advice = "" if ok else "In a container, start it with --shm-size=8g."
    return Check("shared memory", ok, f"{free / 2**20:,.0f} MiB free", advice)


def check_memory(group: Path = Path("/sys/fs/cgroup/memory.max"), info: Path = Path("/proc/meminfo")) -> Check:
    """Main memory, or the part of it that this session's control group may have before it is killed."""
    total, free = (size / 2**30 for size in machine.memory(info))
    limit = group.read_text().strip() if group.exists() else "max"
    if limit != "max" and int(limit) / 2**30 < total:
        return Check("memory", True, f"{free:.1f} GiB free; this session is ended beyond {int(limit) / 2**30:.1f} GiB")
    ok = free >= 2
    return Check(
        "memory",
        ok,
        f"{free:.1f} of {total:.1f} GiB free",
        "" if ok else "Loading a model needs more: end what you can.",
    )


def check_clock(path: Path, now: float) -> Check:
    """Whether the clock runs after what the ledger has already seen: one that went back makes ages and ends wrong."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    newest = _newest(path)
    if newest is not None and newest > now + 60:
        return Check(
            "clock",
            False,
            f"{shown}, {newest - now:.0f} s before the ledger's last entry",
            "Set the clock: timedatectl set-ntp true",
        )
    synchronised = _answer("timedatectl", "show", "--property=NTPSynchronized", "--value")
    return Check("clock", True, shown + {"yes": ", synchronised", "no": ", not synchronised"}.get(synchronised, ""))


def _newest(path: Path) -> float | None:
    if not path.exists():
        return None
    ledger = Ledger.open(path)
    try:
        value = ledger.value(
            "SELECT max(t) FROM (SELECT max(heartbeat) t FROM job UNION ALL SELECT max(created) FROM run)"
        )
    finally:
        ledger.close()
    return None if value is None else float(str(value))
