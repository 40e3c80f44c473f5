"""All that is to be known about one value of a profile, for the form and the command line: meaning, range, default, what is usual, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from engine import advice
from engine.profile_fields import OFF, Field

MEASURED_BY_NOBODY: Final = "a rule of thumb, measured by nobody"


def explained(
    field: Field, value: Callable[[str], object], shown: Callable[[object], str]
) -> tuple[tuple[str, str], ...]:
    """Titles and texts, most wanted first. `value` gives a dotted key's value, `shown` how a value is written."""
    known = advice.about(field.key)
    usual = advice.usual(field.key, value)
    told = [("means", field.about)]
    if field.choices:
        told.append(("one of", ", ".join(map(shown, field.choices))))
    if field.bounds:
        told.append(("range", field.bounds))
    if field.default == OFF:
        told.append(("default", OFF))
    elif field.default is not None:
        told.append(("default", shown(field.default) or "empty"))
    if usual is not None:
        far = advice.unusual(field.key, value)
        told.append(("usual", usual.says + (f"; {shown(value(field.key))} is {far.partition(':')[0]}" if far else "")))
    if known is not None:
        told.append(("why", known.why))
        if known.thumb:
            told.append(("quoted", f"{known.thumb} ({MEASURED_BY_NOBODY})"))
        told += [("found", f"{each.says} ({each.source})") for each in known.literature]
    return tuple(told)
