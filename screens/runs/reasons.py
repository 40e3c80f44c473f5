"""What runs say of their settings, as the table and the lines under it show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from rich.cells import cell_len
from textual.content import Content

from engine.ledger.evidence import Evidence
from engine.ledger.importance import Setting, Study
from engine.ledger.verdict import hundredths
from screens.runs.diff import plain
from screens.widgets import figures
from screens.widgets.line import shortened

MUTED: Final = "$foreground-muted"
GROUPS: Final = 4  # ranges that a number's values are told in
MANY: Final = 8  # values of a choice that are told
WHOLE: Final = 1e9  # below it whole numbers are written out
WIDEST: Final = 30  # columns of a value


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
    return f"{hundredths(low)} {hundredths(high):>4}"


def strength(setting: Setting) -> str:
    """`.66`."""
    return hundredths(setting.strength)


def best(setting: Setting) -> str:
    """The value, or the range of values, that the best runs had."""
    first, *more = setting.best
    return (
        _range(float(first), float(more[0]))
        if more and isinstance(first, float) and isinstance(more[0], float)
        else _value(first)
    )


def _value(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE:
        return f"{value:.0f}"
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
