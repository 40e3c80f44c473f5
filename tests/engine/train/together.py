"""Two ranks and more in forked children: a function run by all of them at once, joined as torchrun would join them."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.train.ranks import joined
from tests.engine.train.children import CONTEXT, KEPT


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        child.join(90)
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
