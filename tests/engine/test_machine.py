"""Whether a process lives: real processes, real zombies, odd names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from engine import machine


def test_this_process_lives_on_this_machine() -> None:
    here = machine.here()
    assert here.host == os.uname().nodename
    assert len(here.boot_id) == 36
    assert here.pid_namespace.startswith("pid:[")
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    started = machine.started(os.getpid())
    assert started is not None
    assert 0 < started <= since_boot


def test_a_dead_process_has_no_start_time_even_before_it_is_buried() -> None:
    child = subprocess.Popen(["sleep", "60"])
    assert machine.started(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert machine.started(child.pid) is None
    child.wait()
    assert machine.started(child.pid) is None


def test_a_name_with_brackets_and_blanks_confuses_nobody(tmp_path: Path) -> None:
    odd = tmp_path / "a) Z 1 (b"
    shutil.copy(shutil.which("sleep") or sys.executable, odd)
    child = subprocess.Popen([odd, "60"])
    try:
        deadline = time.monotonic() + 20
        while b"Z 1" not in Path(f"/proc/{child.pid}/stat").read_bytes() and time.monotonic() < deadline:
            time.sleep(0.01)  # until it has become the program
        mine, theirs = machine.started(os.getpid()), machine.started(child.pid)
        assert mine is not None
        assert theirs is not None
        assert theirs >= mine
    finally:
        child.kill()
        child.wait()


def test_no_pid_lives_forever() -> None:
    assert machine.started(2**22 + 1) is None  # above the largest pid Linux gives (proc(5): pid_max)


def test_cpus_that_share_a_core_are_told(tmp_path: Path) -> None:
    active = tmp_path / "active"
    assert not machine.shares_cores(active)
    for said, shared in (("1\n", True), ("0\n", False)):
        active.write_text(said)
        assert machine.shares_cores(active) == shared
