"""Figures as all screens write them: short, with a unit, the same width when they change.

`–` is what is not known; NaN and infinities are written as such, never hidden.
"""

from __future__ import annotations

import math
import re
import time
from typing import Final

NONE: Final = "–"
MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86_400.0
WEEK: Final = 7 * DAY
YEAR: Final = 365 * DAY
_UNIT: Final = re.compile(r"([\d.,]+)(.*)")


def _special(value: float | None) -> str | None:
    if value is None:
        return NONE
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return None


def value(number: float | None) -> str:
    """A measured value such as a loss, in at most six columns: `.881`, `1.203`, `12.31`, `4.1k`, `2.1e-4`, `3e18`."""
    if special := _special(number):
        return special
    assert number is not None
    size = abs(number)
    if size == 0:
        return "0"
    if size < 0.001 or size >= 1e6:
        return scientific(number)
    if size < 10:
        return _without_zero(f"{number:.3f}")
    if size < 100:
        return f"{number:.2f}"
    return f"{number:.1f}" if size < 1000 else count(number)


def rough(number: float | None) -> str:
    """A figure that is not known well, in two significant digits: `.03`, `2.1`, `85`, `4.1k`."""
    if number is not None and 0.001 <= number < 9.95:
        return _without_zero(f"{number:.2g}")
    return count(number) if number is not None and number >= 1 else value(number)


def span(low: str, high: str) -> str:
    """From one written figure to another, the unit that both have once: `6-18m`, `2.2-6.2 s`, `45s-3m`; one where both are alike."""
    number, unit = _UNIT.fullmatch(low), _UNIT.fullmatch(high)
    if low == high:
        return low
    return f"{number[1]}-{high}" if number and unit and number[2] == unit[2] else f"{low}-{high}"


def scientific(number: float | None) -> str:
    """Two significant digits at most, exponent without padding: `2e-4`, `1.2e-4`; what learning rates look like."""
    if special := _special(number):
        return special
    assert number is not None
    if number == 0:
        return "0"
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def count(number: float | None) -> str:
    """How many: `84`, `4.1k`, `12k`, `1.3M`."""
    if special := _special(number):
        return special
    assert number is not None
    size, sign = abs(number), "-" if number < 0 else ""
    if size < 999.5:
        return f"{sign}{size:.0f}"
    for unit in ("k", "M", "G", "T"):
        size /= 1000
        if size < 999.5 or unit == "T":
            return f"{sign}{_digits(size)}{unit}"
    raise AssertionError("unreachable")


def _digits(size: float) -> str:
    """Two significant digits below ten, whole above."""
    return f"{size:.1f}".removesuffix(".0") if size < 9.95 else f"{size:.0f}"


def _without_zero(text: str) -> str:
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def parameters(number: float | None) -> str:
    """How many weights a model has, as people say it: `4.0B`, `350M`, `0.2M`."""
    if number is None:
        return NONE
    if number >= 0.95e9:
        return f"{number / 1e9:.1f}B"
    return f"{number / 1e6:.0f}M" if number >= 1e7 else f"{number / 1e6:.1f}M"


def size(number: float | None) -> str:
    """Bytes on a disk, in decimal units: `512 B`, `1.2 GB`."""
    if number is None:
        return NONE
    text = count(number)
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def gib(mib: float | None) -> str:
    """Memory in GiB without its unit: `.4`, `9.1`, `131`."""
    if mib is None:
        return NONE
    number = mib / 1024
    if number < 0.05:
        return "0"
    return _without_zero(f"{number:.1f}") if number < 99.95 else f"{number:.0f}"


def memory(mib: float | None) -> str:
    """Memory with its unit: `9.1 GiB`; too little for a tenth of one: `12 MiB`."""
    if mib is None:
        return NONE
    return f"{mib:.0f} MiB" if mib < 103 else f"{gib(mib)} GiB"


def percent(share: float | None) -> str:
    """A share of one: `64 %`; what is there but less than one percent is `<1 %`."""
    if share is None or not math.isfinite(share):
        return NONE
    return "<1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def duration(seconds: float | None) -> str:
    """How long, in one unit and three columns: `45s`, `12m`, `3h`, `1d`, `36w`, `2y`."""
    if seconds is None:
        return NONE
    seconds = max(0.0, seconds)
    if seconds < MINUTE:
        return f"{seconds:.0f}s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f}m"
    if seconds < DAY:
        return f"{seconds // HOUR:.0f}h"
    if seconds < 100 * DAY:
        return f"{seconds // DAY:.0f}d"
    return f"{seconds // WEEK:.0f}w" if seconds < 100 * WEEK else f"{seconds // YEAR:.0f}y"


def seconds(number: float | None) -> str:
    """A short span with its decimals: `12 ms`, `.4 s`, `5 s`."""
    if number is None:
        return NONE
    if number < 0.1:
        return f"{number * 1000:.0f} ms"
    return f"{_without_zero(_digits(number))} s" if number < MINUTE else duration(number)


def clock(when: float | None, now: float) -> str:
    """A time of day, with the weekday or the date where it is not today's: `14:05`, `Tue 03:10`, `12 Mar`."""
    if when is None:
        return NONE
    there, here = time.localtime(when), time.localtime(now)
    if there[:3] == here[:3]:
        return time.strftime("%H:%M", there)
    if abs(when - now) < 6 * DAY:
        return time.strftime("%a %H:%M", there)
    return f"{there.tm_mday} {time.strftime('%b', there)}"


def end(when: float | None, now: float) -> str:
    """When something will end, in six columns: the time of day while that is enough to tell, else the date."""
    return clock(when, when) if when is not None and when - now < 20 * HOUR else clock(when, now - 30 * DAY)


def clock_with_seconds(when: float, now: float | None = None) -> str:
    """A time of day to the second; given `now`, as `clock` where it is not today's."""
    if now is not None and time.localtime(when)[:3] != time.localtime(now)[:3]:
        return clock(when, now)
    return time.strftime("%H:%M:%S", time.localtime(when))
