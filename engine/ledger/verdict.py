"""What runs say of their settings in words: the answer, and what is to be said against it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from engine.ledger import forest
from engine.ledger.evidence import Evidence, Which
from engine.ledger.importance import LEAST, Setting, Study

NAMED: Final = 3  # settings in the answer
TENTH: Final = 0.1  # of the runs' order, that a forest owes to a setting, is worth an answer


def strongest(study: Study) -> tuple[Setting, ...]:
    """By what the forest owes to them, where there is one; where it owes them the same, by their correlation."""
    return tuple(sorted(study.settings, key=lambda each: (-(each.share or 0.0), -each.strength)))


def answer(metric: str, which: Which, study: Study) -> str:
    """What mattered, in a sentence."""
    if study.runs < LEAST:
        one = study.runs == 1
        of = f"{study.runs} run{'' if one else 's'} with a {which} {metric}"
        return f"{of} say{'s' if one else ''} nothing of settings: {LEAST} can begin to."
    if not study.settings:
        return f"These {study.runs:,} runs have the same settings: nothing can have mattered."
    of = f"the {which} {metric} of {study.runs:,} runs"
    told = [each.names[0] for each in strongest(study) if matters(study, each)][:NAMED]
    return (
        f"{_listed(told)} had to do with {of}" if told else f"Of no setting can it be told that it had to do with {of}"
    )


def matters(study: Study, setting: Setting) -> bool:
    """Whether its correlation is clear, or the forest owes it more than a tenth of the runs' order."""
    return setting.clear or (study.explained or 0.0) * (setting.share or 0.0) > TENTH


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def warnings(found: Evidence, study: Study) -> list[str]:
    """What is to be said against it."""
    lines = []
    if study.needed is not None and study.least is not None and study.runs < study.needed:
        below = (
            f"a correlation below {hundredths(study.least)} may be chance"
            if study.least < 1
            else "whatever is seen may be chance"
        )
        lines.append(f"Few runs: {below}, and only from {study.needed} on would a large one be likely to show.")
    if found.unknown and study.settings:
        lines.append(
            "Nobody knows whether these runs were validated on the same rows: if not, their losses say little of each other."
        )
    if found.others:
        more = "1 more run was" if found.others == 1 else f"{found.others:,} more runs were"
        lines.append(f"{more} validated on something else, or on nobody knows what, and left out.")
    return lines


def forest_words(study: Study) -> str:
    """How much the forest knows; `study` is one that it was asked about."""
    if study.runs < forest.LEAST:
        return f"A forest needs {forest.LEAST} runs."
    if study.explained is None or study.explained <= 0:
        return "A forest foretells nothing of runs that it has not seen: it cannot say what mattered."
    drawn = f" ({forest.MOST:,} were drawn)" if study.runs > forest.MOST else ""
    return f"A forest foretells {study.explained:.0%} of the order of runs that it has not seen{drawn}."


def left_out(found: Evidence, study: Study) -> str:
    """What was not looked at; empty where that is nothing."""
    one = study.constant == 1
    parts = [f"{study.constant} setting{' is' if one else 's are'} the same in all"] if study.constant else []
    if study.own:
        parts.append(f"{', '.join(study.own)} differ{'s' if len(study.own) == 1 else ''} in nearly every run")
    if found.without:
        parts.append(f"{found.without:,} run{' has' if found.without == 1 else 's have'} no such value")
    return f"Left out: {'; '.join(parts)}." if parts else ""


def hundredths(number: float) -> str:
    """`.66`, `-.07`, `1.00`."""
    text = f"{round(number, 2) + 0.0:.2f}"  # no -0
    return text.replace("0.", ".", 1) if abs(number) < 0.995 else text
