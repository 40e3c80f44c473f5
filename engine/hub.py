"""What is asked of the model hub before anything starts: does it exist, may we have it, and is there room for it.

The hub's own token look-up, HF_HOME and HF_HUB_OFFLINE are honoured; a token never reaches a message. Only files are
handled here: nothing is imported that could run a model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import Problem
from engine.hub_file import TIMEOUT, cached_file, fetch
from engine.hub_problem import hub_errors, hub_problem
from engine.storage import free_bytes

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

WANTED: Final = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "tokenizer*")
"""What a model's job downloads: weights, configuration, tokenizer. Other formats and nested copies are left."""
ROOM: Final = 1 << 30  # bytes that stay free beside a download, so that the machine goes on working


@dataclass(frozen=True)
class Download:
    """What a model needs from the hub: `total` bytes in all, `missing` of them not yet in the local cache."""

    repo: str
    revision: str
    total: int
    missing: int


def config(repo: str, revision: str = "main") -> dict[str, object]:
    """A model's config.json, from a local folder, the cache, or the hub.

    Raises:
        Problem: model, gated, network.
    """
    folder = Path(repo).expanduser()
    try:
        if folder.is_dir():
            held = folder / "config.json"
            raw = held.read_bytes() if held.is_file() else None
        else:
            raw = fetch(repo, "config.json", revision, required=True)
        read = None if raw is None else json.loads(raw)
    except (OSError, ValueError) as error:
        raise Problem(
            f"The config.json of {repo} cannot be read", f"{error}.", "Download or save the model again.", code="model"
        ) from error
    if not isinstance(read, dict):
        raise Problem(
            f"{repo} holds no model",
            "It has no config.json." if read is None else "Its config.json is not a JSON object.",
            "Name a folder or a repository of a transformers model, not of an adapter or of GGUF files.",
            code="model",
        )
    return read


def check(repo: str, revision: str = "main") -> Download:
    """Make sure that a model can be had: it is here whole, or the hub gives it to us and there is room for it.

    Raises:
        Problem: model, gated, network, disk.
    """
    folder = Path(repo).expanduser()
    if folder.is_dir():
        config(repo)
        return Download(repo, revision, 0, 0)
    if repo.startswith((".", "/", "~")):
        raise Problem(f"There is no folder {repo}", "model.base names it.", "Check the path.", code="model")
    if is_cached(repo, revision):
        return Download(repo, revision, 0, 0)
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT)
        api.auth_check(repo)  # a gated model shows its list of files to everybody
    except hub_errors() as error:
        raise hub_problem(error, repo) from error
    files = wanted(info.siblings or [])
    if not any(file.rfilename.endswith(".safetensors") for file in files):
        raise Problem(
            f"{repo} has no weights in safetensors",
            "Pickled weights can run code when they are opened and are not loaded.",
            "Name a repository that has .safetensors files.",
            code="model",
        )
    missing = [file for file in files if cached_file(repo, file.rfilename, info.sha or revision) is None]
    download = Download(repo, revision, _bytes(files), _bytes(missing))
    _check_room(download)
    return download


def is_cached(repo: str, revision: str = "main") -> bool:
    """Whether the local cache holds configuration and all weights of a model, so that the hub need not be asked."""
    if cached_file(repo, "config.json", revision) is None:
        return False
    index = cached_file(repo, "model.safetensors.index.json", revision)
    if index is None:
        return cached_file(repo, "model.safetensors", revision) is not None
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all(cached_file(repo, name, revision) is not None for name in names)


def wanted(files: list[RepoSibling]) -> list[RepoSibling]:
    """The files of a repository that a job downloads."""
    return [
        file
        for file in files
        if "/" not in file.rfilename and any(fnmatch(file.rfilename, pattern) for pattern in WANTED)
    ]


def _bytes(files: list[RepoSibling]) -> int:
    return sum(file.size or 0 for file in files)


def _check_room(download: Download) -> None:
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    free = free_bytes(place)
    if download.missing + ROOM > free:
        raise Problem(
            f"{download.repo} does not fit the disk",
            f"{download.missing / 1e9:.1f} GB are to be downloaded, {free / 1e9:.1f} GB are free at {place}.",
            "Free some space, or set HF_HOME to a larger disk.",
            code="disk",
        )
