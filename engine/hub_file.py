"""One small file of a model, from the hub or its local cache. Large files are a job's to fetch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR
from pathlib import Path
from typing import Final

from engine.hub_problem import hub_errors, hub_problem

TIMEOUT: Final = 10.0  # seconds to wait for the hub's answer


def cached_file(repo: str, name: str, revision: str = "main") -> Path | None:
    """A file of a repository where the local cache holds it; asks nobody."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repo, name, revision=revision)
    except HFValidationError as error:
        raise hub_problem(error, repo) from error
    return Path(found) if isinstance(found, str) else None


def fetch(model: str, name: str, revision: str, *, required: bool) -> bytes | None:
    """The bytes of a file in a hub model's repository; None for an optional file that it lacks.

    Raises:
        Problem: unknown model, revision or file (code `model`), access not granted (`gated`), hub not reached (`network`).
    """
    held = cached_file(model, name, revision)
    if held is not None:
        return held.read_bytes()
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        with _quietly():
            if required:
                # It fails at once where a download would try again for long.
                HfApi().model_info(model, revision=revision, timeout=TIMEOUT)
            return Path(hf_hub_download(model, name, revision=revision)).read_bytes()
    except LocalEntryNotFoundError as error:  # before EntryNotFoundError, which it is, too
        if not required and _known_absent(model, name, revision):
            return None
        raise hub_problem(error, model) from error
    except EntryNotFoundError:
        return None
    except hub_errors() as error:
        raise hub_problem(error, model) from error


def _known_absent(model: str, name: str, revision: str) -> bool:
    """Whether the cache knows that the file does not exist, or the user asked for the cache alone."""
    from huggingface_hub import _CACHED_NO_EXIST, constants, try_to_load_from_cache

    return constants.HF_HUB_OFFLINE or try_to_load_from_cache(model, name, revision=revision) is _CACHED_NO_EXIST


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the hub client's own bars and warnings on the terminal, which a screen may own."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    had_bars, verbosity = not are_progress_bars_disabled(), logging.get_verbosity()
    disable_progress_bars()
    logging.set_verbosity(ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            enable_progress_bars()
