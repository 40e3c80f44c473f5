"""The other machine, by ssh: the program that the user has, with the user's own keys, agent and configuration."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from engine.errors import Problem

THERE: Final = Path(__file__).with_name("there.py")
CHUNK: Final = 1 << 20  # bytes
NOISE: Final = 100  # lines that a login may print before ours: a shell's start-up files like to greet
LOST: Final = 255  # ssh's own exit status
NO_PYTHON: Final = (126, 127)
Progress = Callable[[int, int], None]  # bytes received and to receive, of one file


@dataclass(frozen=True)
class Box:
    """Another machine as ssh knows it (`user@host`, or a name of its configuration), and the folder or file of its ledger there."""

    host: str
    place: str = ""

    @classmethod
    def parse(cls, text: str) -> Box:
        """From `[user@]host[:FOLDER]`, an IPv6 address in brackets, as scp takes it.

        Raises:
            Problem: it names no host, or would be an option to ssh.
        """
        before, bracket, after = text.partition("]")
        host, _, place = after.partition(":") if bracket else text.partition(":")
        host = f"{before}{host}".replace("[", "") if bracket else host
        if not host or host.startswith("-") or any(letter.isspace() for letter in host):
            raise Problem(f"{text!r} names no machine", "It should be user@box or user@box:FOLDER.", code="pull")
        return cls(host, place)


@contextmanager
def connected(box: Box) -> Iterator[tuple[str, ...]]:
    """The ssh command to reach the box with: one connection for all that is asked, so that a password is asked for once.

    Raises:
        Problem: there is no ssh.
    """
    if shutil.which("ssh") is None:
        raise Problem("There is no ssh on this machine", do="Install OpenSSH's client.", code="pull")
    with tempfile.TemporaryDirectory(prefix="ssh-", dir="/tmp") as folder:  # a socket's path must be short
        shared = ("-o", "ControlMaster=auto", "-o", f"ControlPath={folder}/%C", "-o", "ControlPersist=20")
        batch = () if sys.stdin.isatty() else ("-o", "BatchMode=yes")  # with nobody to ask, asking would wait for ever
        ssh = ("ssh", "-T", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15", *shared, *batch)
        try:
            yield ssh
        finally:
            subprocess.run([*ssh, "-O", "exit", "--", box.host], capture_output=True, check=False)


def receive(
    ssh: Sequence[str], box: Box, arguments: Sequence[str], into: Path, progress: Progress | None = None
) -> list[Path]:
    """Run `there` on the box and put the files that it sends into the folder `into`; returns them.

    Raises:
        Problem: the box cannot be reached or has no Python; it says what is wrong there; what it sent is not whole.
    """
    command = [*ssh, "--", box.host, "exec python3 - " + shlex.join(arguments)]
    with tempfile.TemporaryFile() as said, THERE.open("rb") as script:
        process = subprocess.Popen(command, stdin=script, stdout=subprocess.PIPE, stderr=said)
        assert process.stdout
        try:
            found = _files(process.stdout, into, progress or (lambda done, total: None))
        except BaseException:
            process.terminate()
            raise
        finally:
            process.stdout.close()
            status = process.wait()
        said.seek(0)
        words = said.read().decode(errors="replace").strip().splitlines()
    if found is None:
        raise _failed(box, status, words, begun=any(into.iterdir()))
    return found


def _files(stream: IO[bytes], into: Path, progress: Progress) -> list[Path] | None:
    """What came, or None where it broke off.

    Raises:
        Problem: the other side says what is wrong, or names a place that is not its to name.
    """
    found: list[Path] = []
    noise = 0
    while line := stream.readline(1 << 16):
        told = _told(line)
        if told is None:
            noise += 1
            if found or noise > NOISE:
                return None
        elif "end" in told:
            return found
        elif "problem" in told:
            raise Problem(str(told["problem"]), "", str(told.get("do", "")), code="pull")
        else:
            path = into / below(str(told.get("file", "..")))
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _one(stream, path, int(str(told["bytes"])), progress):
                return None
            found.append(path)
    return None


def below(name: str) -> PurePosixPath:
    """The path of a file within a folder of ours, as the other machine names it.

    Raises:
        Problem: it would lie elsewhere.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise Problem(f"The other machine names a file {name}", "That is no place here.", code="pull")
    return path


def _told(line: bytes) -> dict[str, object] | None:
    """A line of the protocol; None for anything else."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict) or told.keys().isdisjoint(("file", "end", "problem")):
        return None
    size = told.get("bytes")
    return told if "file" not in told or (isinstance(size, int) and size >= 0) else None


def _one(stream: IO[bytes], path: Path, size: int, progress: Progress) -> bool:
    left = size
    with path.open("wb") as file:
        path.chmod(0o600)
        while left:
            data = stream.read(min(left, CHUNK))
            if not data:
                return False
            file.write(data)
            left -= len(data)
            progress(size - left, size)
    return True


def _failed(box: Box, status: int, words: Sequence[str], *, begun: bool) -> Problem:
    why = words[-1] if words else f"ssh ended with status {status}."
    if status == LOST and not begun:
        return Problem(f"{box.host} cannot be reached", why, f"See that this works: ssh {box.host} true", code="pull")
    if status in NO_PYTHON and not begun:
        do = "Make a copy there (workbench ledger backup FILE), bring it here, and: workbench ledger merge FILE"
        return Problem(f"{box.host} has no python3", why, do, code="pull")
    what = f"The transfer from {box.host} broke off"
    return Problem(what, why, "Pull again; what was here is as it was.", code="pull")
