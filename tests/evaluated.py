"""Runs with finished evaluations in a ledger, written as the evaluate job writes them, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine import profile_file
from engine.evaluate.answers import Said, read_answer, refusals
from engine.evaluate.measures import questions_asked, scores
from engine.evaluate.suites import Suite, SuiteItem
from engine.ledger import Ledger, evaluations, runs
from engine.ledger.evaluations import Evaluation
from engine.ledger.runs import Run
from engine.profile import flat
from tests.tiny import tiny_profile

CHOICES = ("yes", "no", "maybe")


def finished_run(ledger: Ledger, folder: Path, name: str = "tuned", *, base: str = "base-1") -> Run:
    """A run that has finished, with fingerprints for its base and its result."""
    profile = tiny_profile(folder / "base", folder / "rows.jsonl")
    text = profile_file.dump(profile)
    run = runs.create(ledger, name=name, runs_folder=folder / "runs", profile=text, settings=flat(profile))
    (run.folder / "adapter" / "best").mkdir(parents=True)
    runs.set_result(ledger, run, kind="adapter", path="adapter/best")
    runs.record(ledger, run, fingerprints={"base": base, "result": f"result-{run.uid}"})
    with ledger.transaction() as connection:
        connection.execute("UPDATE run SET state = 'finished' WHERE id = ?", (run.id,))
    return runs.find(ledger, run.uid)


def answered(
    ledger: Ledger,
    run: Run | None,
    suite: Suite,
    said: Sequence[Said],
    *,
    model: str = "",
    conditions: str = '{"dtype": "float32"}',
    finish: bool = True,
) -> Evaluation:
    """An evaluation of a run (of a base where it is None) with an answer for every prompt of the suite."""
    evaluation = evaluations.begin(
        ledger,
        run=run.id if run else None,
        model=model or (f"result-{run.uid}" if run else "base-1"),
        model_name=run.name if run else "tiny",
        suite=suite.name,
        suite_fingerprint=suite.fingerprint,
        conditions=conditions,
    )
    asked = [(item, variant) for item in suite.items for variant in range(len(item.prompts))]
    refusal = refusals(suite)
    items = [
        read_answer(item, variant, one, refusal.get(item.id, ()))
        for (item, variant), one in zip(asked, said, strict=True)
    ]
    evaluations.add_items(ledger, evaluation, items)
    if finish:
        evaluations.finish(ledger, evaluation, n=questions_asked(items), scores=scores(items))
    return evaluation


def decisions(n: int, name: str = "pubmedqa") -> Suite:
    """`n` questions to be answered with yes, no or maybe; the right answer of every other one is yes."""
    items = tuple(
        SuiteItem(f"q{number:03}", f"Is statement {number} true?", answer=(gold(number),), choices=CHOICES)
        for number in range(n)
    )
    return Suite(name, items, f"{name}-{n}")


def gold(number: int) -> str:
    """The right answer of question `number` of `decisions`."""
    return "yes" if number % 2 == 0 else "no"


def decided(n: int, wrong: Sequence[int]) -> list[Said]:
    """Answers to `decisions`: right but for the questions in `wrong`, which get maybe."""
    found = []
    for number in range(n):
        choice = "maybe" if number in wrong else gold(number)
        found.append(Said(f"{choice}. Because.", 4, 1.0, {one: 0.0 if one == choice else -5.0 for one in CHOICES}))
    return found


def compared_run(ledger: Ledger, folder: Path, name: str = "tuned", *, n: int = 100, seed: int = 0) -> Run:
    """A run that is better on decisions (it lost 3 answers and won 40) and kept all of a retention suite of `n`; its
    base with it.
    """
    run = finished_run(ledger, folder, name)
    suite = decisions(n)
    answered(ledger, None, suite, decided(n, range(40)))
    answered(ledger, run, suite, decided(n, range(90 + seed, 93 + seed)))
    kept = decisions(n, "retention")
    answered(ledger, None, kept, decided(n, range(5)))
    answered(ledger, run, kept, decided(n, range(5)))
    return run
