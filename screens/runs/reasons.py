"""What runs say of their settings, in words: the verdict, what is to be said against it, and the values of one setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from rich.cells import cell_len
from textual.content import Content

from engine.ledger import forest
from engine.ledger.evidence import Evidence, Which
from engine.ledger.importance import LEAST, Setting, Study
from screens.runs.diff import plain
from screens.widgets import figures
from screens.widgets.line import shortened

MUTED: Final = "$foreground-muted"
GROUPS: Final = 4  # ranges that a number's values are told in
MANY: Final = 8  # values of a choice that are told
WIDEST: Final = 30  # columns of a value


def strongest(study: Study) -> tuple[Setting, ...]:
    """By what the forest owes to them, where there is one; a tie goes to the stronger correlation."""
    return tuple(sorted(study.settings, key=lambda each: (-(each.share or 0.0), -each.strength)))


def verdict(metric: str, which: Which, study: Study) -> Content:
    """What mattered, in a line."""
    of = f"the {which} {metric} of {study.runs} runs"
    clear = [each.names[0] for each in strongest(study) if each.clear]
    if study.runs < LEAST:
        words = f"{study.runs} runs with a {which} {metric} say nothing of settings: {LEAST} can begin to."
    elif not study.settings:
        words = f"These {study.runs} runs have the same settings: nothing can have mattered."
    elif clear:
        words = f"{_listed(clear[:3])} had to do with {of}"
    else:
        words = f"Of no setting can it be told that it had to do with {of}"
    return Content.styled(words, "bold")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def warnings(found: Evidence, study: Study, *, grown: bool) -> list[Content]:
    """What is to be said against it, and how much the forest knows."""
    lines = []
    if study.settings and study.needed is not None and study.runs < study.needed:
        few = f"! Few runs: a correlation below {_hundredths(study.least or 1.0)} may be chance, and {study.needed} would show a large one."
        lines.append(Content.styled(few, "$text-warning"))
    if found.others:
        lines.append(
            Content.styled(
                f"! {found.others} more runs were validated on something else and are left out.", "$text-warning"
            )
        )
    if len(study.settings) > 0:
        lines.append(Content.styled(_forest(study, grown), MUTED))
    left = [f"{study.constant} settings are the same in all"] if study.constant else []
    left += [f"{', '.join(study.own)} differ in nearly every run"] if study.own else []
    left += [f"{found.without} runs have no such value"] if found.without else []
    if left:
        lines.append(Content.styled(f"Left out: {'; '.join(left)}.", MUTED))
    return lines


def _forest(study: Study, grown: bool) -> str:
    if study.runs < forest.LEAST:
        return f"A forest needs {forest.LEAST} runs."
    if not grown:
        return "A forest is being grown ..."
    if study.explained is None or study.explained <= 0:
        return "A forest foretells nothing of runs that it has not seen: what it thinks of settings is chance."
    return f"A forest foretells {figures.percent(study.explained)} of the order of runs that it has not seen."


def direction(setting: Setting) -> tuple[str, str]:
    """Whether more of it went with better runs, where that is clear."""
    if setting.correlation is None:
        return "choice", MUTED
    if not setting.clear:
        return "unclear", MUTED
    return ("better", "$text-success") if setting.correlation > 0 else ("worse", "$text-error")


def interval(setting: Setting) -> str:
    """Of the correlation that is shown without its sign."""
    if setting.correlation is None or setting.low is None or setting.high is None:
        return ""
    low, high = (setting.low, setting.high) if setting.correlation >= 0 else (-setting.high, -setting.low)
    return f"{_hundredths(low)} {_hundredths(high):>4}"


def _hundredths(number: float) -> str:
    return f"{number:.2f}".replace("0.", ".", 1)


def strength(setting: Setting) -> str:
    """`.66`."""
    return _hundredths(setting.strength)


def best(setting: Setting) -> str:
    """The value, or the range of values, that the best runs had."""
    first, *more = setting.best
    return (
        _range(float(first), float(more[0]))
        if more and isinstance(first, float) and isinstance(more[0], float)
        else _value(first)
    )


def _value(value: object) -> str:
    if isinstance(value, float):
        return figures.scientific(value) if value and abs(value) < 0.01 else f"{value:.4g}"
    return shortened(plain(value), WIDEST)


def by_value(found: Evidence, study: Study, setting: Setting) -> list[Content]:
    """The median and the best of the metric by the setting's values: a number's from low to high, a choice's from the best on."""
    values = np.array(found.values)
    groups = _groups([settings.get(setting.names[0]) for settings in found.settings], setting)
    if setting.kind == "choice":
        sign = -1.0 if study.higher_is_better else 1.0
        groups.sort(key=lambda group: sign * float(np.median(values[group[1]])))
    like = f"  nearly changed together with {', '.join(setting.like)}" if setting.like else ""
    lines = [Content.assemble((" = ".join(setting.names), "bold"), (like, "$text-warning"))]
    width = max((cell_len(text) for text, _ in groups), default=0)
    for text, places in groups[:MANY]:
        of = values[places]
        top = float(of.max() if study.higher_is_better else of.min())
        many = f"{len(places)} run{'s' if len(places) > 1 else ' '}".rjust(9)
        median = figures.value(float(np.median(of)))
        lines.append(
            Content(
                f"  {text}{' ' * (width - cell_len(text))}  {many}  median {median:>6}  best {figures.value(top):>6}"
            )
        )
    return lines


def _groups(told: Sequence[object], setting: Setting) -> list[tuple[str, list[int]]]:
    """The places of the runs by value, or by range where a number has many values."""
    if setting.kind == "choice":
        texts = [_value(value) for value in told]
        return [(text, [place for place, each in enumerate(texts) if each == text]) for text in dict.fromkeys(texts)]
    numbers = sorted((float(value), place) for place, value in enumerate(told) if isinstance(value, int | float))
    if setting.values <= MANY:
        parts = [
            [place for number, place in numbers if number == each] for each in dict.fromkeys(n for n, _ in numbers)
        ]
    else:
        parts = [part.tolist() for part in np.array_split([place for _, place in numbers], GROUPS) if len(part)]
    there = {place: number for number, place in numbers}
    return [(_range(there[part[0]], there[part[-1]]), part) for part in parts]


def _range(low: float, high: float) -> str:
    return _value(low) if low == high else f"{_value(low)} – {_value(high)}"
