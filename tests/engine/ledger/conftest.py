"""What the ledger's tests share: a run to write to, and small disks that can be full or read-only."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.ledger import Ledger, runs
from engine.ledger.runs import Run

Script = Callable[..., str]


@pytest.fixture
def run(ledger: Ledger, tmp_path: Path) -> Run:
    """A queued run."""
    return runs.create(ledger, name="speech", runs_folder=tmp_path, profile="", settings={})


@pytest.fixture
def disk(tmp_path: Path) -> Script:
    """Run Python code with `disk` (a Path) on a small file system of its own; returns what it printed.

    It is a tmpfs in a user namespace, because permission bits mean nothing to root. `size` in KiB.
    """
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let users mount in a namespace of their own")
    place = tmp_path / "disk"
    place.mkdir()

    def script(code: str, *, size: int = 8192) -> str:
        lines = [
            "import os, subprocess",
            "from pathlib import Path",
            f"disk = Path({str(place)!r})",
            f"subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size={size}k,mode=700', 'none', str(disk)], check=True)",
            "def read_only():",
            "    subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)",
        ]
        done = subprocess.run(
            ["unshare", "-rm", sys.executable, "-c", "\n".join([*lines, code])],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return script
