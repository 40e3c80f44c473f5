"""Data sets of the hub: downloaded once by a process of their own into the cache, from then on a file like any other.

The library `datasets` is imported only here, inside `download`, which runs in a job or as `python -m engine.data.hub_source`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import orjson

from engine import profile
from engine.errors import Problem
from engine.places import cache, private_folder


def is_hub_id(source: str) -> bool:
    """Whether a source that is no file here looks like a hub data set: owner/name."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source)) and not _names_file(source)


def _names_file(source: str) -> bool:
    return Path(source).exists() or bool(re.search(r"\.(jsonl|ndjson|json|csv|tsv|parquet|txt)$", source))


def copy_path(data: profile.Data) -> Path:
    """Where the copy of a hub data set is kept."""
    words = "--".join(part for part in (data.source, data.subset, data.split) if part)
    return cache() / "data" / (re.sub(r"[^\w.-]+", "--", words) + ".jsonl")


def local_copy(data: profile.Data) -> Path:
    """The downloaded copy.

    Raises:
        Problem: it was not downloaded yet (code `data`).
    """
    path = copy_path(data)
    if not path.is_file():
        raise Problem(
            f"{data.source} is on the hub and not downloaded yet",
            f"Neither {data.source} is a file here nor is its {data.split} split in the cache.",
            f"Download it once with: workbench data {data.source}; a run downloads it by itself.",
            code="data",
        )
    return path


def download(data: profile.Data) -> Path:
    """Load the data set with `datasets` and keep it as JSON Lines in the cache. Only in a process that may import `datasets`.

    Raises:
        Problem: unknown data set, subset or split, no access, no network, or `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise Problem(
            "Hub data need the library datasets",
            do='Install it with: pip install "finetune-workbench[engine]"',
            code="data",
        ) from error
    from huggingface_hub.errors import GatedRepoError

    try:
        rows = datasets.load_dataset(data.source, data.subset or None, split=data.split)
    except GatedRepoError as error:
        raise Problem(
            f"Access to {data.source} is gated", f"{error}.", "Log in with: hf auth login", code="gated"
        ) from error
    except (datasets.exceptions.DatasetNotFoundError, ValueError) as error:
        raise Problem(
            f"The hub has no {data.source} {data.subset} {data.split}".replace("  ", " "), f"{error}", code="data"
        ) from error
    except (ConnectionError, OSError) as error:
        raise Problem(
            f"{data.source} cannot be downloaded", f"{error}", "Check the network.", code="network"
        ) from error
    path = copy_path(data)
    private_folder(path.parent)
    temporary = path.with_suffix(f".{os.getpid()}.part")
    with temporary.open("wb") as file:
        for row in rows:
            file.write(orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return path


def download_apart(data: profile.Data, *, quiet: bool = False) -> Path:
    """As `download`, in a child process, for processes that must not import `datasets`; `quiet` keeps its bars off the terminal.

    Raises:
        Problem: as `download`.
    """
    command = [sys.executable, "-P", "-m", "engine.data.hub_source", data.model_dump_json()]
    stderr = subprocess.DEVNULL if quiet else None
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True, check=False
    )
    if done.returncode == 0:
        return local_copy(data)
    try:
        told = orjson.loads(done.stdout)
    except orjson.JSONDecodeError:
        raise Problem(
            f"{data.source} cannot be downloaded", f"The download ended with {done.returncode}.", code="data"
        ) from None
    raise Problem(told["what"], told["why"], told["do"], code=told["code"])


def main() -> int:
    """The child: one data source as JSON in the arguments; a problem as JSON on stdout."""
    try:
        download(profile.Data.model_validate_json(sys.argv[1]))
    except Problem as problem:
        told = {"what": problem.what, "why": problem.why, "do": problem.do, "code": problem.code}
        print(orjson.dumps(told).decode())
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
