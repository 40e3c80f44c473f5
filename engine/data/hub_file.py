"""One small file of a model on the hub, with every way it can go wrong said in words. Large files are the job's to fetch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import Problem


def fetch(model: str, name: str, revision: str, *, required: bool) -> bytes | None:
    """The bytes of a file in a hub model's repository, from the cache where it is there; None for an optional file it lacks.

    Raises:
        Problem: unknown model, revision or file (code `model`), access not granted (`gated`), hub not reached (`network`).
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]

    try:
        with _quietly():
            return Path(hf_hub_download(model, name, revision=revision)).read_bytes()
    except GatedRepoError as error:
        raise Problem(
            f"Access to {model} is gated",
            "Its owners ask everybody to accept their terms, and the hub does not know that you did.",
            f"Accept them on the page of {model}, then log in once with: hf auth login",
            code="gated",
        ) from error
    except RepositoryNotFoundError as error:
        raise Problem(
            f"There is no model {model}",
            "Neither a folder here nor a model that the hub shows to you; private ones need a token.",
            "Check the spelling, or log in with: hf auth login",
            code="model",
        ) from error
    except RevisionNotFoundError as error:
        raise Problem(
            f"{model} has no revision {revision}", do="model.revision = main is the newest.", code="model"
        ) from error
    except HFValidationError as error:
        raise Problem(
            f"There is no model {model}",
            "It is neither a folder here nor a hub id, which looks like owner/name.",
            code="model",
        ) from error
    except LocalEntryNotFoundError as error:  # before EntryNotFoundError, which it also is
        if not required and _known_absent(model, name, revision):
            return None
        raise _unreached(model, name) from error
    except EntryNotFoundError:
        return None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise Problem(
                f"The hub refuses {model}",
                f"It answered {status}: the token is wrong, expired or lacks the right.",
                "Log in again with: hf auth login",
                code="gated",
            ) from error
        raise Problem(
            f"The hub failed on {name} of {model}", f"It answered {status}.", "Try again later.", code="network"
        ) from error
    except (TransportError, OSError) as error:
        raise _unreached(model, name) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the hub client's own bars and warnings on the terminal, which a screen may own."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    had_bars, verbosity = not are_progress_bars_disabled(), logging.get_verbosity()
    disable_progress_bars()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            enable_progress_bars()


def _known_absent(model: str, name: str, revision: str) -> bool:
    """Whether the cache knows that the file does not exist, or the user asked for the cache alone."""
    from huggingface_hub import _CACHED_NO_EXIST, constants, try_to_load_from_cache

    return constants.HF_HUB_OFFLINE or try_to_load_from_cache(model, name, revision=revision) is _CACHED_NO_EXIST


def _unreached(model: str, name: str) -> Problem:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return Problem(
            f"{model} is not on this machine",
            f"HF_HUB_OFFLINE is set and {name} is not in the cache.",
            "Unset HF_HUB_OFFLINE, or give a local folder as model.base.",
            code="network",
        )
    return Problem(
        f"The hub cannot be reached for {model}",
        f"{name} is not in the cache either.",
        "Check the network or HTTPS_PROXY, or give a local folder as model.base.",
        code="network",
    )
