"""Whether the draft fits, asked of `engine.fit` in a thread. What takes long - reading the data - is remembered while it stays the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine import compatible, hub
from engine.errors import Problem
from engine.fit import cards
from engine.fit.estimate import Estimate, GpuFit, estimate
from engine.fit.facts import Facts, look
from engine.gpu import Gpu
from engine.ledger import Ledger
from engine.lineage import grounded
from engine.profile import Profile
from engine.resolve import cards_for, check_names, preference_advice

REMEMBERED: Final = 8  # combinations of base and data


@dataclass(frozen=True)
class Judgement:
    """The answer, or the problem that keeps it from being given. `elsewhere` names the kind of GPU that is assumed, where it is not here."""

    estimate: Estimate | None = None
    facts: Facts | None = None
    problem: Problem | None = None
    notes: tuple[str, ...] = ()
    elsewhere: str = ""

    @property
    def fits(self) -> tuple[GpuFit, ...]:
        """The answers a GPU, or the CPU's."""
        return self.estimate.fits if self.estimate else ()

    @property
    def best(self) -> GpuFit | None:
        """The GPU that the run would go to: of those that the profile allows, the one with most free memory."""
        return max(self.fits, key=lambda fit: fit.free_mib, default=None)


class Judge:
    """Judges profiles; used from one thread at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._facts: dict[str, Facts] = {}
        self._configs: dict[str, Mapping[str, object]] = {}

    def judge(
        self, profile: Profile, gpus: Sequence[Gpu], elsewhere: str, given_up: Callable[[], bool]
    ) -> Judgement | None:
        """The judgement; None when `given_up` says that nobody waits for it any more."""
        notes: list[str] = []
        try:
            profile, _ = grounded(profile, self._ledger, notes)
            where = (cards.named(elsewhere),) if elsewhere else cards_for(profile, gpus)
            facts = self._look(profile)
            if given_up():
                return None
            check_names(profile, facts)
            if config := self._config(profile, facts):
                compatible.check(profile.method, config)
                notes += compatible.notes(profile.model, profile.method, config)
            notes += preference_advice(profile)
            if facts.assumed:
                notes.append(facts.assumed)
            return Judgement(estimate(profile, facts, where), facts, None, tuple(notes), elsewhere)
        except Problem as problem:
            return Judgement(problem=problem, elsewhere=elsewhere)

    def _config(self, profile: Profile, facts: Facts) -> Mapping[str, object]:
        """The base's config.json; empty where the base is not to be had, and asked for once."""
        key = f"{profile.model.base}@{profile.model.revision}"
        if key not in self._configs:
            self._configs[key] = {} if facts.assumed else hub.config(profile.model.base, profile.model.revision)
        return self._configs[key]

    def _look(self, profile: Profile) -> Facts:
        key = _key(profile)
        if key not in self._facts:
            if len(self._facts) >= REMEMBERED:
                self._facts.pop(next(iter(self._facts)))
            self._facts[key] = look(profile, guess=True)
        return self._facts[key]


def _key(profile: Profile) -> str:
    """Everything that the facts depend on, files by size and time."""
    said = profile.model_dump(
        mode="json", include={"model": {"base", "revision"}, "data": True, "template": True, "split": True}
    )
    files = [profile.model.base, *(data.source for data in profile.data), str(profile.split.test)]
    return json.dumps(
        [
            said,
            profile.training.loss_on,
            profile.training.objective,
            [_stamp(Path(name).expanduser()) for name in files],
        ]
    )


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns
