"""Who trains in a folder: the program that writes there or was told to, what it prints to and what it holds on the GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.watching import processes

HOLDS = "import sys, time; file = open(sys.argv[1], sys.argv[2]); print('open', flush=True); time.sleep(600)"
SPAWNS = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]]).wait()"


@contextmanager
def program(*words: str, cwd: Path | None = None, output: Path | None = None) -> Iterator[int]:
    """A Python program that has said that it is open."""
    if output is None:
        with subprocess.Popen([sys.executable, "-c", *words], stdout=subprocess.PIPE, cwd=cwd) as child:
            assert child.stdout is not None
            child.stdout.readline()
            yield child.pid
            _end(child)
        return
    with output.open("w") as file, subprocess.Popen([sys.executable, "-c", *words], stdout=file, cwd=cwd) as child:
        while not output.stat().st_size:
            assert child.poll() is None
        yield child.pid
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    for pid in processes._children(child.pid):
        os.kill(pid, 9)
    child.kill()


def found(folder: Path) -> list[int]:
    return [each.pid for each in processes.behind(folder)]


def test_who_writes_into_the_folder_is_found(out: Path) -> None:
    assert found(out) == []
    with program(HOLDS, str(out / "events"), "w") as pid:
        assert found(out) == [pid]
        (process,) = processes.behind(out)
        assert process.alive
        with program(HOLDS, str(out / "events"), "r"):  # somebody who only reads
            assert found(out) == [pid]
    assert not process.alive
    assert found(out) == []


def test_of_a_launcher_and_its_workers_the_launcher_is_found(out: Path) -> None:
    with program(SPAWNS, HOLDS, str(out / "log"), "w", output=out / "out.txt") as pid:
        assert found(out) == [pid]  # its output, which both have, is in the folder too
        assert processes.printed_to(pid) == out / "out.txt"


def test_who_was_told_the_folder_is_found_before_it_writes(out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with program(HOLDS, "file", "r", "--output_dir=out", cwd=tmp_path) as pid:
        assert found(out) == [pid]
        with program(HOLDS, str(tmp_path / "file"), "r", str(out)) as other:
            assert found(out) == sorted([pid, other])


def test_the_gpu_memory_of_a_process_and_its_children(driver: Path) -> None:
    ask = "from engine.watching.processes import gpu_mib; import os; print(gpu_mib(os.getppid()), gpu_mib(1))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(driver), "NVML_PID": str(os.getpid())}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("{'0 GeForce RTX 4090': 1024.0} ")
