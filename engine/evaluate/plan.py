"""What an evaluation job is to do, settled and checked before anything heavy is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from engine import turns
from engine.assignment import profile_of
from engine.data.render import Renderer
from engine.data.templates import template_source
from engine.data.tokenizer import load_tokenizer
from engine.errors import Problem
from engine.evaluate.suites import Suite, check_overlap, find_suite, read_suite
from engine.ledger import Ledger, runs
from engine.ledger.runs import Run
from engine.ledger.states import LIVE
from engine.lineage import origin
from engine.profile import Model, Profile

# Raised when answers are asked for or read in another way: older evaluations are then not compared with new ones.
READING: Final = 1
CHOICE_TOKENS: Final = 24  # of a written answer where the choices' likelihoods count
TEXT_TOKENS: Final = 64


@dataclass(frozen=True)
class Task:
    """A run's suites with what decides how they are asked.

    `base` is what its chain began with: the profile's own base but where that is another run's whole model. `known_base` is the fingerprint that
    the training knew of it.
    """

    run: Run
    profile: Profile
    suites: tuple[Suite, ...]
    base: Model
    known_base: str | None

    @cached_property
    def renderer(self) -> Renderer:
        """The run's template, for its base and for its result alike."""
        tokenizer = load_tokenizer(self.base.base, self.base.revision)
        return Renderer(tokenizer, self.profile.template)

    def max_new_tokens(self, suite: Suite) -> int:
        """How long a written answer may get."""
        return CHOICE_TOKENS if all(item.choices for item in suite.items) else TEXT_TOKENS

    def conditions(self, suite: Suite) -> str:
        """Everything beside model and suite that may change an answer, as JSON: only equal conditions are compared."""
        model, template = self.profile.model, self.profile.template
        source = template_source(template, self.renderer.tokenizer)
        known = {
            "template": template.name,
            "template_sha256": hashlib.sha256(source.encode()).hexdigest()[:16],
            "system": template.system,
            "thinking": template.thinking,
            "dtype": model.dtype,
            "device": "cpu" if turns.places(self.profile.hardware) == (turns.CPU,) else "cuda",
            "max_new_tokens": self.max_new_tokens(suite),
            "reading": READING,
        }
        return json.dumps(known, sort_keys=True)


def plan(ledger: Ledger, run_names: Sequence[str], suite_names: Sequence[str]) -> list[Task]:
    """One task a run, with all suites read and checked.

    Raises:
        Problem: no such run or suite, a run that still trains or has no result, a suite that the run has seen in
            training, a tokenizer or template that cannot be read.
    """
    tasks: list[Task] = []
    for name in run_names:
        run = runs.find(ledger, name)
        if run.state in LIVE:
            raise Problem(
                f"{run.name} is {run.state}",
                "Its result still changes.",
                f"Let it finish, or stop it first: workbench runs stop {run.name}",
                code="running",
            )
        if run.result is None or not run.result.is_dir():
            raise Problem(
                f"{run.name} has no result to evaluate",
                f"There is nothing at {run.result}." if run.result else f"It is {run.state}.",
                f"Go on with it: workbench runs resume {run.name}",
                code="result",
            )
        profile, document = profile_of(ledger, run), runs.document(ledger, run)
        suites = [read_suite(find_suite(suite, run.folder)) for suite in dict.fromkeys(suite_names)]
        for suite in suites:
            check_overlap(suite, run)
        base, known = origin(profile, document.environment)
        if base == profile.model:
            known = document.fingerprints.get("base")
        task = Task(run, profile, tuple(suites), base, known)
        _ = task.renderer  # a base that is gone or a broken template is said before torch is loaded
        tasks.append(task)
    return tasks
