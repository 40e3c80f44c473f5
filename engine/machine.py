"""Which machine this is, what memory it has, and whether a process still lives on it (Linux's /proc).

A pid alone proves nothing: it is reused, and it means something else in another container or after a reboot. A process is
named by host, boot id, pid namespace, pid and start time together.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Where a pid means something."""

    host: str
    boot_id: str
    pid_namespace: str


@cache
def here() -> Machine:
    """This machine, as seen by this process."""
    return Machine(
        host=socket.gethostname(),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid_namespace=str(Path("/proc/self/ns/pid").readlink()),
    )


def memory(info: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """Main memory in bytes: all of it, and what programs could still have without swapping."""
    values = dict(line.split(":", 1) for line in info.read_text().splitlines())
    total, available = (int(values[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    return total, available


def shares_cores(active: Path = Path("/sys/devices/system/cpu/smt/active")) -> bool:
    """Whether two of its CPUs are one core; not where the kernel does not say."""
    return active.is_file() and active.read_text().strip() == "1"


def started(pid: int) -> int | None:
    """Start time of a live process in clock ticks since boot; None if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in brackets and may hold blanks and brackets; state is the first field after it, start time the twentieth.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
