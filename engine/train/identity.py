"""What a checkpoint was made with, and whether a run may go on from it: as the same run, as the same but for rounding, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from engine import profile_file
from engine.errors import Problem
from engine.profile import Profile, flat
from engine.train import watch
from engine.train.batches import Layout

# What may change between start and resume. The first decide nothing about the result; the others only how sums are rounded and which
# dropout masks are drawn: the run means the same and does not end bit for bit as it would have.
FREE: Final = (
    "title",
    "training.keep",
    "training.save_every",
    "training.mirror",
    "hardware.gpus",
    "hardware.headroom_mib",
    "evaluation.suites",
)
ROUNDING: Final = (
    "training.micro_batch",
    "training.row_tokens",
    "training.checkpoint_activations",
    "training.deterministic",
)


@dataclass(frozen=True)
class Identity:
    """All that the bits of a run depend on: its profile and what computes it."""

    profile: Mapping[str, object]  # flat
    ranks: int
    threads: int
    packages: Mapping[str, str]  # versions
    rows: str  # how they are put together, which is tried at each start: another version may answer otherwise
    device: str  # a GPU's model, or what a CPU can do


def of(profile: Profile, device: torch.device, layout: Layout) -> Identity:
    """The identity of a run as it is now."""
    cuda = device.type == "cuda"
    ranks = profile.hardware.ranks
    assert isinstance(ranks, int), "the profile is not resolved"
    return Identity(
        profile=flat(profile),
        ranks=ranks,
        threads=torch.get_num_threads(),
        packages=watch.packages(),
        rows=_named(layout),
        device=torch.cuda.get_device_name(device) if cuda else f"CPU {torch.backends.cpu.get_cpu_capability()}",
    )


def own_profile(known: Profile, folder: Path) -> Profile:
    """The profile that a run goes on with: the ledger's, with what its folder's profile.toml changes of what may change.

    Raises:
        Problem: that file cannot be read, or changes what the run means (code `changed`).
    """
    path = folder / "profile.toml"
    if not path.is_file():
        return known
    written = profile_file.read(path)
    refuse_other_meaning(flat(known), flat(written), f"{path} is not the profile that the run began with")
    return written


def refuse_other_meaning(before: Mapping[str, object], now: Mapping[str, object], what: str) -> None:
    """See that two flat profiles mean the same run.

    Raises:
        Problem: they do not; it names each key with both values (code `changed`).
    """
    changed = [key for key in different(before, now) if not _may_change(key)]
    if changed:
        values = "; ".join(f"{key}: {before.get(key)!r} became {now.get(key)!r}" for key in changed)
        raise Problem(what, f"{values}.", "Put it back as it was, or start it as a run of its own.", code="changed")


def check(before: Identity, now: Identity) -> list[str]:
    """What keeps the run from ending bit for bit as one that was never interrupted; empty where nothing does.

    Raises:
        Problem: it would be another run (code `changed`).
    """
    if before.ranks != now.ranks:
        raise Problem(
            f"The run was trained by {before.ranks} processes, now there {'is' if now.ranks == 1 else 'are'} {now.ranks}",
            "Each sees its own share of a batch and draws its own random numbers.",
            f"Resume it with {before.ranks}, or start the profile anew.",
            code="changed",
        )
    refuse_other_meaning(before.profile, now.profile, "The profile has changed since the checkpoint was made")
    odd = [
        (key, before.profile[key], now.profile[key])
        for key in different(before.profile, now.profile)
        if key in ROUNDING
    ]
    odd += [
        (name, before.packages.get(name, "none"), now.packages.get(name, "none"))
        for name in different(before.packages, now.packages)
    ]
    odd += [
        (name, getattr(before, name), getattr(now, name))
        for name in ("threads", "rows", "device")
        if getattr(before, name) != getattr(now, name)
    ]
    return [f"{name} {was} became {value}" for name, was, value in odd]


def different(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Keys with another value, or that only one has."""
    return sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))


def _may_change(key: str) -> bool:
    return key in FREE or key in ROUNDING


def _named(layout: Layout) -> str:
    if layout.row_tokens is None:
        return "padded"
    return "packed into one" if layout.flat else "packed"
