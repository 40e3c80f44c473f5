"""What runs differ in: settings, data, versions and machine, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from engine.ledger import runs, summaries
from engine.ledger.best import higher_is_better
from engine.ledger.runs import Run
from engine.ledger.store import Ledger

Topic = Literal["best", "setting", "fingerprint", "environment"]
TOLD_ELSEWHERE: Final = ("work", "memory", "lineage")  # of the environment: what came out, and where the run comes from


@dataclass(frozen=True)
class Difference:
    """Something in which runs are not the same: one value a run, None where a run has no such thing."""

    topic: Topic
    key: str
    values: tuple[object, ...]


def between(ledger: Ledger, chosen: Sequence[Run]) -> list[Difference]:
    """All in which these runs differ: the best of their losses and other judged metrics, settings, fingerprints, environment.

    What was done comes before what it was done to.
    """
    best = [_best(ledger, run) for run in chosen]
    documents = [runs.document(ledger, run) for run in chosen]
    settings = [runs.settings(ledger, run) for run in chosen]
    prints = [{key: value for key, value in each.fingerprints.items() if key != "result"} for each in documents]
    around = [
        {**flat({key: value for key, value in each.environment.items() if key not in TOLD_ELSEWHERE}), **_own(run)}
        for run, each in zip(chosen, documents, strict=True)
    ]
    return [
        *_different("best", best),
        *sorted(
            _different("setting", settings), key=lambda each: each.key.startswith(("data.", "split.", "evaluation."))
        ),
        *_different("fingerprint", prints),
        *_different("environment", around),
    ]


def different(facts: Sequence[Mapping[str, object]]) -> dict[str, tuple[object, ...]]:
    """What runs with these facts (such as their settings) differ in: key to each one's value; None where one has no such key."""
    keys = sorted(set().union(*facts))
    values = {key: tuple(fact.get(key) for fact in facts) for key in keys}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each)}


def _different(topic: Topic, facts: Sequence[Mapping[str, object]]) -> list[Difference]:
    return [Difference(topic, key, values) for key, values in different(facts).items()]


def _best(ledger: Ledger, run: Run) -> dict[str, object]:
    """Of the metrics that are judged, validation first."""
    known = summaries.of_run(ledger, run)
    judged = (key for key in known if key.endswith("/loss") or higher_is_better(key))
    return {key: known[key].best for key in sorted(judged, key=lambda key: (not key.startswith("validation/"), key))}


def _own(run: Run) -> dict[str, object]:
    return {"gpu": run.gpu or None, "source": run.source or None}


def flat(found: Mapping[str, object], before: str = "") -> dict[str, object]:
    """Nested tables by dotted key; a list of tables as the words in them."""
    made: dict[str, object] = {}
    for key, value in found.items():
        if isinstance(value, Mapping):
            made |= flat(value, f"{before}{key}.")
        elif isinstance(value, list):
            words = [" ".join(map(str, one.values())) if isinstance(one, Mapping) else one for one in value]
            made[before + key] = words
        else:
            made[before + key] = value
    return made
