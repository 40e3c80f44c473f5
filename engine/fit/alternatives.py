"""What a profile would need with other models than its own, told by formulas: all that are known, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.bases import Base
from engine.errors import Problem
from engine.fit.cards import Card
from engine.fit.estimate import GpuFit, fit
from engine.fit.facts import Facts
from engine.profile import Profile, changed


def least(profile: Profile, facts: Facts, card: Card, found: Sequence[Base]) -> dict[str, GpuFit]:
    """By name what the profile would need at the least with each model: one row at once, activations recomputed where the profile leaves it
    open, its data as long as they are in the present model's tokens. Models that formulas do not understand are left out.
    """
    given = profile.training
    change: dict[str, object] = {"training.micro_batch": 1} if given.micro_batch == "auto" else {}
    if given.checkpoint_activations == "auto":
        change["training.checkpoint_activations"] = profile.method.bears_recomputation
    needed = {}
    for base in found:
        try:
            asked = changed(profile, {**change, "model.base": base.name})
            needed[base.name] = fit(asked, replace(facts, config=base.config), card, climb=False)
        except (Problem, ValueError):
            continue
    return needed
