"""What is asked of the model hub before anything starts: does it exist, may we have it, and is there room for it.

The hub's own token look-up, HF_HOME and HF_HUB_OFFLINE are honoured; a token never reaches a message. Only files are
handled here: nothing is imported that could run a model.
"""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import Problem
from engine.storage import free_bytes

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

WANTED: Final = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "tokenizer*")
"""What a model's job downloads: weights, configuration, tokenizer. Other formats and nested copies are left."""
ROOM: Final = 1 << 30  # bytes that stay free beside a download, so that the machine goes on working
TIMEOUT: Final = 10.0  # seconds to wait for the hub's answer


@dataclass(frozen=True)
class Download:
    """What a model needs from the hub: `total` bytes in all, `missing` of them not yet in the local cache."""

    repo: str
    revision: str
    total: int
    missing: int


def hub_problem(error: Exception, repo: str) -> Problem:
    """An exception of huggingface_hub (or of the disk below it) in words; codes model, gated, network, disk.

    The error's own text is not repeated where it could carry a header or a signed address.
    """
    from huggingface_hub import errors

    if isinstance(error, Problem):
        return error
    if isinstance(error, errors.GatedRepoError):
        return _gated(repo)
    if isinstance(error, errors.RevisionNotFoundError):
        return Problem(
            f"{repo} has no such revision",
            "The hub knows the model, but not this branch, tag or commit.",
            'Set model.revision to one that its page lists; "main" is the usual.',
            code="model",
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError | errors.DisabledRepoError):
        return _unknown(repo)
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return Problem(
            f"{repo} lacks a file that a model needs",
            "The hub knows it, but it has no config.json or no tokenizer.",
            "Name a repository of a transformers model, not of an adapter or of GGUF files.",
            code="model",
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Problem(
            f"The disk is full: {repo} was not downloaded whole",
            "What was downloaded is kept and goes on from there.",
            "Free some space, or set HF_HOME to a larger disk.",
            code="disk",
        )
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(error.response.status_code, repo)
    return _unreachable(error, repo)


def _gated(repo: str) -> Problem:
    return Problem(
        f"{repo} is gated: its owner wants you to accept terms first",
        "The hub refused this account, or no account is logged in.",
        f"Accept the terms at https://huggingface.co/{repo}, then log in with: hf auth login",
        code="gated",
    )


def _unknown(repo: str) -> Problem:
    return Problem(
        f"There is no model {repo}",
        "It is neither a local folder nor a repository on the hub that this account can see.",
        "Check the spelling (OWNER/NAME); for a private one log in with: hf auth login",
        code="model",
    )


def _answered(status: int, repo: str) -> Problem:
    """The hub answered, but not with what was asked."""
    if status == 401:
        return Problem(
            f"The hub does not accept the token that {repo} was asked for with",
            "It has expired or was revoked (401).",
            "Log in again with: hf auth login",
            code="gated",
        )
    if status == 403:
        return _gated(repo)
    if status == 429:
        return Problem(
            f"The hub wants us to wait before it gives out {repo}",
            "Too many requests came from this address or account (429).",
            "Try again in a few minutes; logging in raises the limit: hf auth login",
            code="network",
        )
    return Problem(
        f"The hub could not give out {repo}",
        f"It answered with status {status}.",
        "Try again later; https://status.huggingface.co says how it is.",
        code="network",
    )


def _unreachable(error: Exception, repo: str) -> Problem:
    """Nobody answered: offline on purpose, or no way to the hub."""
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE or isinstance(error, errors.OfflineModeIsEnabled):
        return Problem(
            f"{repo} is not on this machine, and the hub is switched off",
            "HF_HUB_OFFLINE is set and the local cache does not hold the model whole.",
            "Unset HF_HUB_OFFLINE, or name a local folder as model.base.",
            code="network",
        )
    return Problem(
        f"The hub cannot be reached, and {repo} is not whole on this machine",
        f"{type(error).__name__}: no answer from {constants.ENDPOINT}.",
        "Check the network (HTTPS_PROXY, firewall), or name a local folder as model.base.",
        code="network",
    )


def cached_file(repo: str, name: str, revision: str = "main") -> Path | None:
    """A file of a repository where the local cache holds it; asks nobody."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repo, name, revision=revision)
    except HFValidationError as error:
        raise _unknown(repo) from error
    return Path(found) if isinstance(found, str) else None


def config(repo: str, revision: str = "main") -> dict[str, object]:
    """A model's config.json, from a local folder, the cache, or the hub.

    Raises:
        Problem: model, gated, network.
    """
    folder = Path(repo).expanduser()
    held = folder / "config.json" if folder.is_dir() else cached_file(repo, "config.json", revision)
    path = held or _fetch(repo, "config.json", revision)
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Problem(
            f"{folder} holds no model",
            "It has no config.json.",
            "Name a folder that a transformers model was saved in.",
            code="model",
        ) from error
    except (OSError, ValueError) as error:
        raise Problem(
            f"{path} cannot be read", f"{error}.", "Download or save the model again.", code="model"
        ) from error
    if not isinstance(read, dict):
        raise Problem(f"{path} is no model configuration", "It is not a JSON object.", code="model")
    return read


def _fetch(repo: str, name: str, revision: str) -> Path:
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(
            repo, revision=revision, timeout=TIMEOUT
        )  # fails at once where a download would retry for long
        return Path(HfApi().hf_hub_download(repo, name, revision=revision))
    except _errors() as error:
        raise hub_problem(error, repo) from error


def _errors() -> tuple[type[Exception], ...]:
    """What a call to the hub may raise; which HTTP client is below huggingface_hub has changed between its versions."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    client = [kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError" and issubclass(kind, Exception)]
    return (OSError, ValueError, EntryNotFoundError, *client)


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
    except _errors() as error:
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
