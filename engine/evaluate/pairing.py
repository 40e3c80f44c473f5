"""Which evaluations may be compared: finished, of the model that the run now has, on the same suite bytes, under the
same conditions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine.ledger import Ledger, evaluations, runs
from engine.ledger.evaluations import Evaluation
from engine.ledger.runs import Run

BASE: Final = "base"


@dataclass(frozen=True)
class Missing:
    """What could not be compared, why, and the command that makes it; no command where nothing would."""

    what: str
    why: str
    command: str


@dataclass(frozen=True)
class Pair:
    """A run's evaluation and the one it is compared with; `against` is `base` or the other run's name."""

    run: Run
    against: str
    tuned: Evaluation
    other: Evaluation


def model_key(fingerprint: str, quantization: str) -> str:
    """What a model is known by: a base quantised to 4 bits is another model than the same files in full."""
    return fingerprint if quantization == "none" else f"{fingerprint}-{quantization}"


def pairs_of(ledger: Ledger, compared: Sequence[Run]) -> tuple[list[Pair], list[Missing]]:
    """Each run with its base, then each later run with the first; and what is missing for that."""
    pairs: list[Pair] = []
    missing: list[Missing] = []
    done = {run.uid: finished(ledger, run) for run in compared}
    for run in compared:
        if not done[run.uid]:
            missing.append(_no_evaluation(ledger, run))
        for tuned in done[run.uid]:
            base = base_of(ledger, run, tuned)
            if base is None:
                what = f"{tuned.suite}: the base of {run.name} has not been asked"
                missing.append(Missing(what, "A figure alone says nothing.", _command(run, tuned.suite)))
            else:
                pairs.append(Pair(run, BASE, tuned, base))
    for run in compared[1:]:
        for tuned in done[run.uid]:
            other = next((one for one in done[compared[0].uid] if one.suite == tuned.suite), None)
            lacking = _unlike(compared[0], run, tuned, other)
            if lacking is None and other is not None:
                pairs.append(Pair(run, compared[0].name, tuned, other))
            elif lacking is not None:
                missing.append(lacking)
    return pairs, missing


def finished(ledger: Ledger, run: Run) -> list[Evaluation]:
    """The newest finished evaluation of each suite by name, of the result that the run has now.

    One with a counterpart of its base is preferred to a newer one without.
    """
    result = _key(ledger, run, "result")
    newest: dict[str, Evaluation] = {}
    for one in evaluations.of_run(ledger, run.id):
        if one.finished is None or (result is not None and one.model != result):
            continue
        before = newest.get(one.suite)
        if before is None or base_of(ledger, run, one) or not base_of(ledger, run, before):
            newest[one.suite] = one
    return list(newest.values())


def base_of(ledger: Ledger, run: Run, tuned: Evaluation) -> Evaluation | None:
    """What the run's base answered to the same questions under the same conditions; None if it was not asked."""
    base = _key(ledger, run, "base")
    others = evaluations.counterparts(ledger, tuned)
    return next((one for one in others if one.run is None and one.model == base), None)


def _key(ledger: Ledger, run: Run, part: str) -> str | None:
    known = runs.document(ledger, run).fingerprints
    # Of a chain of whole models the first one's base is asked, not the model that this run began with.
    fingerprint = known.get("origin", known.get("base")) if part == "base" else known.get(part)
    quantization = str(runs.settings(ledger, run).get("model.quantization", "none"))
    return None if fingerprint is None else model_key(fingerprint, quantization)


def _no_evaluation(ledger: Ledger, run: Run) -> Missing:
    asked = runs.settings(ledger, run).get("evaluation.suites")
    suites = [str(name) for name in asked] if isinstance(asked, list) and asked else ["retention"]
    begun = any(one.finished is None for one in evaluations.of_run(ledger, run.id))
    why = "An evaluation was begun and goes on where it was." if begun else "No suite has been put to it."
    return Missing(f"{run.name} has no finished evaluation", why, _command(run, *suites))


def _unlike(first: Run, run: Run, tuned: Evaluation, other: Evaluation | None) -> Missing | None:
    """Why two runs' evaluations of a suite cannot be compared; None if they can."""
    if other is None:
        what = f"{tuned.suite}: {first.name} has not been asked"
        return Missing(what, f"{run.name} has.", _command(first, tuned.suite))
    if tuned.suite_fingerprint != other.suite_fingerprint:
        what = f"{tuned.suite}: {first.name} and {run.name} were asked different questions"
        return Missing(what, "The suite's file is not the same.", _command(first, tuned.suite))
    if tuned.conditions != other.conditions:
        what = f"{tuned.suite}: {first.name} and {run.name} were asked under different conditions"
        return Missing(what, _different(other.conditions, tuned.conditions), "")
    return None


def _different(one: str, other: str) -> str:
    left, right = json.loads(one), json.loads(other)
    parts = [f"{key} {left.get(key)} and {right.get(key)}" for key in left if left.get(key) != right.get(key)]
    return f"They differ in {', '.join(parts)}."


def _command(run: Run, *suites: str) -> str:
    return " ".join(["workbench evaluate", run.name, *(f"--suite {suite}" for suite in suites)])
