"""The demonstration's suites, made from what the base model knows: what it keeps, whether it agrees with itself, what it makes up.

What it is to learn is measured by the rows that the run holds out (the suite `test`). Traps ask about names that occur nowhere in
training; every trap has a twin of the same form about a thing that the base knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from engine.atomic import write_bytes
from workbench.demo import facts, weather
from workbench.demo.facts import Fact

TRAPS: Final = 40
REPORTS: Final = 40
TRAINED_NAMES: Final = 200
_TRAINED_SEED: Final = 1
_TRAP_SEED: Final = 2
_REPORT_SEED: Final = 12

Item = dict[str, object]


def trained_names() -> tuple[str, ...]:
    """Invented names that the base is taught not to know."""
    return facts.invented_names(TRAINED_NAMES, _TRAINED_SEED)


def trap_names() -> tuple[str, ...]:
    """Invented names that occur in no training row."""
    taught = set(trained_names())
    fresh = [name for name in facts.invented_names(TRAPS + TRAINED_NAMES, _TRAP_SEED) if name not in taught]
    return tuple(fresh[:TRAPS])


def retention() -> Iterator[Item]:
    """Facts, sums and plain English in a wording that training saw, and weather reports of days that it did not see."""
    for fact in (*facts.facts(), *facts.sums(), *facts.descriptions()):
        yield {"id": fact.id, "prompt": fact.trained[0], "answer": fact.answer}
    for report in weather.reports(REPORTS, _REPORT_SEED):
        yield {"id": report.id, "prompt": report.questions[0], "answer": report.answer}


def consistency() -> Iterator[Item]:
    """Every second fact in all its wordings, the one that training never saw among them."""
    for fact in facts.facts()[::2]:
        prompt, *variants = fact.questions
        yield {"id": fact.id, "prompt": prompt, "variants": variants, "answer": fact.answer}


def hallucination() -> Iterator[Item]:
    """Traps and twins: each trap asks in one of the wordings of its relation, its twin in the same wording of a real thing."""
    known: dict[str, list[Fact]] = {}
    for fact in facts.facts():
        known.setdefault(fact.id.partition("-")[0], []).append(fact)
    for place, (thing, relation, questions) in enumerate(facts.unknown_questions(trap_names())):
        real = known[relation.name].pop()
        wording = next(index for index in range(place, place + 2) if index % len(questions) != real.held_out)
        wording %= len(questions)
        twin = f"real-{real.id}"
        yield {"id": f"trap-{relation.name}-{thing.lower()}", "prompt": questions[wording], "trap": True, "twin": twin}
        yield {"id": twin, "prompt": real.questions[wording], "answer": real.answer, "trap": False}


SUITES: Final = {"retention": retention, "consistency": consistency, "hallucination": hallucination}


def write(folder: Path) -> tuple[Path, ...]:
    """Write all suites to `folder` as JSONL; returns their files."""
    files = []
    for name, items in SUITES.items():
        files.append(folder / f"{name}.jsonl")
        write_bytes(files[-1], b"".join(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in items()))
    return tuple(files)
