"""Ranks in forked children, joined as torchrun would join them: a function, or a whole job, run by all of them at once."""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from engine import process, torchrun
from engine.ending import Ending
from engine.ledger import jobs
from engine.ledger.runs import Run
from engine.places import private_folder
from engine.train.ranks import joined
from tests.engine.train.children import CONTEXT, KEPT
from tests.engine.train.conftest import Bench

DEADLINE = 300  # seconds; only a broken test ever waits so long


# Below those that the system gives to whoever asks for any, such as the ranks of other tests, and apart for each worker of the tests: nobody
# takes a port between its choice and the moment, seconds later, when the ranks listen.
PORTS = count(10_000 + os.getpid() % 200 * 100)


def free_port() -> int:
    """A port that nobody listens on."""
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("there is always another")


def together(folder: Path, world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(ranks, *arguments)` returns on each rank."""
    port = free_port()
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    folder.mkdir(exist_ok=True)
    children = []
    for rank in range(world):
        environment = kept | environment_of(rank, world, port)
        child = CONTEXT.Process(target=_rank, args=(environment, folder / f"{rank}.pickle", function, arguments))
        child.start()
        children.append(child)
    for child in children:
        child.join(DEADLINE)
        if child.exitcode is None:
            child.kill()
    found = []
    for rank in range(world):
        path = folder / f"{rank}.pickle"
        assert path.is_file(), f"rank {rank} failed; its traceback is on stderr"
        found.append(pickle.loads(path.read_bytes()))
        path.unlink()
    return found


def environment_of(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun tells a rank."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }


def _rank(environment: dict[str, str], path: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(environment)
    with joined("cpu") as ranks:
        found = function(ranks, *arguments)
    path.write_bytes(pickle.dumps(found))


def train(bench: Bench, run: Run, *, prepare: dict[int, Callable[[], None]] | None = None) -> Ending:
    """How a job of the run ends that two ranks do in forked children, as torchrun's would; `prepare` is called first in a rank."""
    job = bench.job(run)
    folder, port = run.folder / "ranks", free_port()
    private_folder(folder)
    for path in folder.iterdir():
        path.unlink()
    kept = {name: os.environ[name] for name in KEPT if name in os.environ} | {torchrun.FOLDER: str(folder)}
    children = []
    for rank in range(2):
        environment = kept | environment_of(rank, 2, port)
        first = (prepare or {}).get(rank)
        child = CONTEXT.Process(target=_of_job, args=(str(bench.ledger.path), job.uid, environment, first))
        child.start()
        children.append(child)
    for child in children:
        child.join(DEADLINE)
        if child.exitcode is None:
            child.kill()
    exits = {str(rank): child.exitcode for rank, child in enumerate(children) if child.exitcode}
    if exits:
        (folder / "exits.json").write_text(json.dumps(exits))
    ending = torchrun.ending_of(folder)
    jobs.set_state(bench.ledger, job, ending.state, cause=ending.cause, message=ending.message)
    return ending


def _of_job(ledger: str, uid: str, environment: dict[str, str], prepare: Callable[[], None] | None) -> None:
    os.environ.update(environment)
    os.environ[process.PARENT] = str(os.getppid())
    if prepare:
        prepare()
    from engine.rank import main

    sys.exit(main([uid, "--ledger", ledger]))
