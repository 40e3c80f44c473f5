"""What the model hub refuses, in words for people. A token never reaches a message."""

from __future__ import annotations

import errno

from engine.errors import Problem


def hub_errors() -> tuple[type[Exception], ...]:
    """What a call to the hub may raise; which HTTP client is below huggingface_hub has changed between its versions."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    client = [kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError" and issubclass(kind, Exception)]
    return (OSError, ValueError, EntryNotFoundError, *client)


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
