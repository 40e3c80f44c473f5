"""Whether the draft fits, asked of `engine.fit` in a thread. What takes long - reading the data, the hub - is remembered while it stays the same."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from engine import compatible, hub
from engine.advice import row_notes
from engine.errors import Problem
from engine.fit import cards
from engine.fit.anchored import Anchored
from engine.fit.cards import Card
from engine.fit.estimate import FORMULAS, Estimate, GpuFit, estimate, fit
from engine.fit.facts import Facts, look
from engine.fit.failures import Failure, failures
from engine.fit.history import PastErrors, errors, taught
from engine.fit.predicting import Predicted, Predictor
from engine.fit.question import Answer, Question
from engine.gpu import Gpu
from engine.lineage import grounded
from engine.profile import Model, Profile
from engine.resolve import cards_for, check_names, disk_bytes, preference_advice
from screens.session import Session

REMEMBERED: Final = 8  # combinations of base and data
LEARNED_AGAIN: Final = 10.0  # seconds after which past runs are looked through again
ASKED_AGAIN: Final = 60.0  # seconds after which the hub is asked again: what it said may be so no longer


@dataclass(frozen=True)
class Room:
    """Bytes: what is downloaded first (None: the hub does not say), what the run writes, and what is free where it writes."""

    download: int | None
    needed: float
    free: int | None

    @property
    def full(self) -> bool:
        """What the run writes finds no room."""
        return self.free is not None and self.needed > self.free


@dataclass(frozen=True)
class Judgement:
    """The answer for a profile, or the problem that keeps it from being given. `gpus` are those that were there; `elsewhere` names the kind
    of GPU that is assumed, where it is not here. `room` is None until it is known. `errors` are those of past predictions and `failures` runs
    like this one that failed, on the best GPU. `unsimulated` says why its figures are not simulated, or that they will be; `unanswered`
    is what has to be simulated before there is an estimate at all.
    """

    profile: Profile | None = None
    estimate: Estimate | None = None
    facts: Facts | None = None
    problem: Problem | None = None
    notes: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    elsewhere: str = ""
    room: Room | None = None
    errors: PastErrors | None = None
    failures: tuple[Failure, ...] = ()
    unsimulated: str = ""
    unanswered: Question | None = None

    @property
    def fits(self) -> tuple[GpuFit, ...]:
        """The answers a GPU, or the CPU's."""
        return self.estimate.fits if self.estimate else ()

    @property
    def best(self) -> GpuFit | None:
        """The GPU that the run would go to: of those that the profile allows, the one with most free memory."""
        return max(self.fits, key=lambda fit: fit.free_mib, default=None)


class _Remembering:
    """A predictor that keeps the question that nobody can answer yet, so that it is simulated."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.unanswered: Question | None = None

    def predict(self, question: Question) -> Predicted:
        """As the predictor that is asked.

        Raises:
            Problem: it cannot tell.
        """
        try:
            return self._predictor.predict(question)
        except Problem as problem:
            if problem.code == "shape":
                self.unanswered = question
            raise


class Judge:
    """Judges profiles. A thread that nobody waits for any more may still be at it when the next begins: what they remember is guarded."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._guard = threading.Lock()
        self._facts: dict[str, Facts] = {}
        self._downloads: dict[tuple[str, str], tuple[float, int | Problem]] = {}
        self._cards: dict[tuple[Card, str, Model], tuple[float, Card]] = {}
        self._refused: dict[str, Problem] = {}
        self.simulator = session.simulator() if session.simulator else None
        self._predictor: Predictor = Anchored(self.simulator) if self.simulator else FORMULAS

    def at_hand(self, profile: Profile) -> bool:
        """Whether what is slow to find out of the profile's base and data is known."""
        return _key(grounded(profile, self._session.ledger, [])[0]) in self._facts

    def judge(self, profile: Profile, gpus: Sequence[Gpu], elsewhere: str) -> Iterator[Judgement]:
        """The judgement, and a fuller one as soon as the hub and the disk have answered.

        Raises:
            Problem: it cannot be given.
        """
        notes: list[str] = []
        profile, _ = grounded(profile, self._session.ledger, notes)
        where = (cards.named(elsewhere),) if elsewhere else cards_for(profile, gpus)
        facts = self._look(profile)
        check_names(profile, facts)
        compatible.check(profile.method, facts.config)
        notes += compatible.notes(profile.model, profile.method, facts.config)
        notes += preference_advice(profile)
        notes += row_notes(
            profile.training.objective, facts.train_rows, facts.shape.parameters if facts.shape else None
        )
        if facts.assumed:
            notes.append(facts.assumed)
        found = Judgement(profile, None, facts, None, tuple(notes), tuple(gpus), elsewhere)
        found = self._estimated(found, [self._taught(card, profile) for card in where])
        asked = profile.model.base, profile.model.revision
        when, download = self._downloads.get(asked, (0.0, None))
        if time.monotonic() - when > ASKED_AGAIN:
            yield found if download is None else self._roomy(found, download)
            download = _download(*asked)
            self._downloads[asked] = time.monotonic(), download
        assert download is not None
        yield self._roomy(found, download)

    def _estimated(self, found: Judgement, where: Sequence[Card]) -> Judgement:
        """With the estimate, what past runs taught of it, or what has to be simulated before there is one."""
        assert found.profile is not None
        assert found.facts is not None
        ledger, profile = self._session.ledger, found.profile
        predictor = _Remembering(self._predictor)
        try:
            found = replace(found, estimate=_climbed(profile, found.facts, where, predictor))
        except Problem:
            question = predictor.unanswered
            if question is None or self.simulator is None:
                raise
            refused = self._refused.get(question.key)
            return replace(found, problem=refused) if refused else replace(found, unanswered=question)
        assert found.best is not None
        return replace(
            found,
            errors=errors(ledger, found.best.name, found.best.source),
            failures=next((failures(ledger, profile, card) for card in where if card.uuid == found.best.uuid), ()),
            unsimulated=self._unsimulated(found.best),
        )

    def to_simulate(self, judgement: Judgement) -> Question | None:
        """What is to be simulated next: what formulas do not know, the best GPU's figures, then the others'."""
        if judgement.unanswered is not None:
            return judgement.unanswered
        ordered = sorted(judgement.fits, key=lambda fit: fit is not judgement.best)
        wanted = (fit.question for fit in ordered if fit.source != "simulated")
        return next((question for question in wanted if question.key not in self._refused), None)

    def learn(self, question: Question, outcome: Answer | Problem) -> None:
        """What came of a simulation: answers are kept by the simulator, problems here."""
        if isinstance(outcome, Problem):
            self._refused[question.key] = outcome

    def _unsimulated(self, fit: GpuFit) -> str:
        if self.simulator is None or fit.source == "simulated":
            return ""
        refused = self._refused.get(fit.question.key)
        return f"not simulated: {refused.what}" if refused else "being simulated"

    def _roomy(self, found: Judgement, download: int | Problem) -> Judgement:
        """The same with what it takes of the disk, or the reason why it may not be downloaded."""
        assert found.profile is not None
        assert found.facts is not None
        free = self._session.room(self._session.runs_folder).disk_free
        if isinstance(download, Problem) and download.code != "network":
            return replace(found, problem=download)
        missing = None if isinstance(download, Problem) else download
        return replace(found, room=Room(missing, disk_bytes(found.profile, found.facts), free))

    def _taught(self, card: Card, profile: Profile) -> Card:
        """The card with what past runs taught of it. They are looked through now and then, not at every key."""
        key = replace(card, free_mib=0.0), profile.method.name, profile.model
        when, known = self._cards.get(key, (0.0, card))
        if time.monotonic() - when > LEARNED_AGAIN:
            known = taught(self._session.ledger, card, profile)
            self._cards[key] = time.monotonic(), known
        return replace(known, free_mib=card.free_mib)

    def _look(self, profile: Profile) -> Facts:
        key = _key(profile)
        if (known := self._facts.get(key)) is not None:
            return known
        found = look(profile, guess=True)
        with self._guard:
            while len(self._facts) >= REMEMBERED:
                self._facts.pop(next(iter(self._facts)))
            self._facts[key] = found
        return found


def _climbed(profile: Profile, facts: Facts, where: Sequence[Card], predictor: Predictor) -> Estimate:
    """The estimate for each GPU. What to change is looked for on the best one alone: eight GPUs would take eight times as long."""
    if len(where) < 2:
        return estimate(profile, facts, where, predictor)
    found = estimate(profile, facts, where, predictor, climb=False)
    best = max(found.gpus, key=lambda each: each.free_mib)
    card = where[found.gpus.index(best)]
    climbed = fit(profile, facts, card, predictor, beside=where)
    return replace(found, gpus=tuple(climbed if each is best else each for each in found.gpus))


def _download(base: str, revision: str) -> int | Problem:
    """Bytes that are to be downloaded, or why that is not known."""
    try:
        return hub.check(base, revision).missing
    except Problem as problem:
        return problem


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
