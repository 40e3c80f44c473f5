"""What runs say of their settings in words: the answer, and what is to be said against it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.ledger import forest
from engine.ledger.evidence import Evidence, Which
from engine.ledger.importance import LEAST, Setting, Study

NAMED = 3  # settings in the answer


def strongest(study: Study) -> tuple[Setting, ...]:
    """By what the forest owes to them, where there is one; where it owes them the same, by their correlation."""
    return tuple(sorted(study.settings, key=lambda each: (-(each.share or 0.0), -each.strength)))


def answer(metric: str, which: Which, study: Study) -> str:
    """What mattered, in a sentence."""
    if study.runs < LEAST:
        return f"{study.runs} runs with a {which} {metric} say nothing of settings: {LEAST} can begin to."
    if not study.settings:
        return f"These {study.runs} runs have the same settings: nothing can have mattered."
    of = f"the {which} {metric} of {study.runs} runs"
    clear = [each.names[0] for each in strongest(study) if each.clear][:NAMED]
    return (
        f"{_listed(clear)} had to do with {of}"
        if clear
        else f"Of no setting can it be told that it had to do with {of}"
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def warnings(found: Evidence, study: Study) -> list[str]:
    """What is to be said against it."""
    lines = []
    if study.needed is not None and study.least is not None and study.runs < study.needed:
        below = f"a correlation below {hundredths(study.least)} may be chance"
        lines.append(f"Few runs: {below}, and only from {study.needed} on would a large one be likely to show.")
    if found.others:
        lines.append(f"{found.others} more runs were validated on something else and are left out.")
    return lines


def forest_words(study: Study) -> str:
    """How much the forest knows; `study` is one that it was asked about."""
    if study.runs < forest.LEAST:
        return f"A forest needs {forest.LEAST} runs."
    if study.explained is None or study.explained <= 0:
        return "A forest foretells nothing of runs that it has not seen: it cannot say what mattered."
    return f"A forest foretells {study.explained:.0%} of the order of runs that it has not seen."


def left_out(found: Evidence, study: Study) -> str:
    """What was not looked at; empty where that is nothing."""
    parts = [f"{study.constant} settings are the same in all"] if study.constant else []
    parts += [f"{', '.join(study.own)} differ in nearly every run"] if study.own else []
    parts += [f"{found.without} runs have no such value"] if found.without else []
    return f"Left out: {'; '.join(parts)}." if parts else ""


def hundredths(number: float) -> str:
    """`.66`, `-.07`, `1.00`."""
    text = f"{number:.2f}"
    return text.replace("0.", ".", 1) if abs(number) < 0.995 else text
