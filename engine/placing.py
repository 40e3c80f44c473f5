"""Where a run runs: which GPUs, how many ranks, and whether each holds the whole model or a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from engine.errors import Problem
from engine.gpu import Gpu, named
from engine.profile import Profile

Sharding = Literal["replicate", "shard"]
# What was seen to give the losses of one rank when the weights are cut (FSDP2), and why the rest does not.
CUT_METHODS: Final = frozenset({"full", "lora", "ia3"})
CUT_QUANTIZATIONS: Final = frozenset({"none", "nf4", "fp4"})
CUT_OPTIMIZERS: Final = frozenset({"adamw"})


def choose_gpus(wanted: str | Sequence[str | int], there: Sequence[Gpu], ranks: str | int = "auto") -> tuple[Gpu, ...]:
    """The GPUs that a profile names by index or UUID; for "auto" those with most free memory, as many as there are to be ranks.

    Raises:
        Problem: there is no such GPU, one is named twice, or there are more or fewer than ranks (code `gpu`).
    """
    if wanted == "auto" or not wanted:
        count = 1 if isinstance(ranks, str) else ranks
        chosen = tuple(sorted(there, key=lambda found: -(found.free_mib or 0.0))[:count])
    else:
        chosen = tuple(named(str(name), there) for name in wanted)
    if len(set(chosen)) < len(chosen):
        raise Problem("hardware.gpus names a GPU twice", do="Name each once.", code="gpu")
    if isinstance(ranks, int) and ranks != len(chosen):
        raise Problem(
            f"hardware.ranks = {ranks}, and there {'is 1 GPU' if len(chosen) == 1 else f'are {len(chosen)} GPUs'} for it",
            "Each rank trains on a GPU of its own.",
            "Set hardware.ranks = auto, or name as many in hardware.gpus.",
            code="gpu",
        )
    return chosen


def ranks_asked(profile: Profile) -> int:
    """How many processes the profile says train together: as many as it names GPUs, unless it says a number; else one."""
    ranks, gpus = profile.hardware.ranks, profile.hardware.gpus
    if not isinstance(ranks, str):
        return ranks
    return 1 if isinstance(gpus, str) else max(1, len(gpus))


def ranks_of(profile: Profile, chosen: Sequence[Gpu]) -> int:
    """How many processes train together: one for each GPU, or on a CPU what the profile says, else one.

    Raises:
        Problem: an effective batch has fewer examples (code `ranks`).
    """
    asked = profile.hardware.ranks
    ranks = max(1, len(chosen)) if isinstance(asked, str) else asked
    batch = profile.training.effective_batch
    if batch < ranks:
        raise Problem(
            f"training.effective_batch = {batch} cannot be divided between {ranks} ranks",
            "Each has to have an example of every step.",
            f"Set training.effective_batch to {ranks} or more, or use fewer GPUs.",
            code="ranks",
        )
    return ranks


def sharding_asked(profile: Profile, ranks: int) -> Sharding | Literal["auto"]:
    """Whether each rank is to hold the model or a part of it; auto where the profile leaves it open and either would work.

    Raises:
        Problem: parts are asked for, and the profile's settings do not work on them (code `sharding`).
    """
    asked, reason = profile.hardware.sharding, why_not_cut(profile)
    if ranks == 1:
        return "replicate"
    if asked == "shard" and reason:
        raise Problem(
            f"hardware.sharding = shard cannot go with {reason[0]}",
            reason[1],
            "Change it, or set hardware.sharding = replicate.",
            code="sharding",
        )
    return "replicate" if asked == "auto" and reason else asked


def why_not_cut(profile: Profile) -> tuple[str, str] | None:
    """The setting that does not work on cut weights, and the reason; None where they can be cut."""
    quantization, method = profile.model.quantization, profile.method.name
    optimizer = profile.training.optimizer
    if quantization not in CUT_QUANTIZATIONS:
        return f"model.quantization = {quantization}", "The scales of 8-bit weights stand on the weights themselves."
    if method not in CUT_METHODS:
        return f"method.name = {method}", "Its virtual tokens stand outside of the layers that are cut."
    if optimizer not in CUT_OPTIMIZERS:
        return f"training.optimizer = {optimizer}", "It does not know of weights of which a GPU has a part."
    return None
