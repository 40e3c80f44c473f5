"""The first line: whether the profile can run, where, until when, and what it takes of the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.content import Content

from engine.fit.estimate import GpuFit
from engine.gpu import Gpu, short_names
from screens.configure.bars import wrapped
from screens.configure.judging import Judgement
from screens.widgets import figures


def verdict(judgement: Judgement | None, problems: Mapping[str, str], now: float, width: int) -> Content:
    """In one line; two where so many columns do not hold it. What is wrong comes before everything else."""
    if problems:
        key, reason = next(iter(problems.items()))
        many = f"{len(problems)} values are wrong" if len(problems) > 1 else "a value is wrong"
        return _refused(f"{many}:", reason if reason.startswith(key) else f"{key}  {reason}")
    if judgement is None:
        return Content.styled("looking at base and data ...", "$foreground-muted")
    if (problem := judgement.problem) is not None:
        return _refused(sentence(problem.what), " ".join(part for part in (problem.why, problem.do) if part))
    if judgement.unanswered is not None:
        return Content.styled("formulas do not know this architecture: simulating it ...", "$foreground-muted")
    best, estimate = judgement.best, judgement.estimate
    assert best is not None
    assert estimate is not None
    if judgement.room and judgement.room.full:
        needed, free = figures.size(judgement.room.needed), figures.size(judgement.room.free)
        return _refused("the disk is too full:", f"{needed} are needed, {free} are free")
    symbol, style = ("✓", "$text-success") if best.fits else ("✗", "$text-error")
    words = [Content.assemble((f"{symbol} ", style), (_where(best, judgement), f"bold {style}"))]
    words.append(Content(f"{estimate.steps:,} steps"))
    if best.seconds:
        words.append(Content(ends(best.seconds, now)))
    if room := judgement.room:
        words += [Content(f"download {figures.size(room.download)}")] if room.download else []
        words.append(Content(f"disk {figures.size(room.needed)} of {figures.size(room.free)}"))
    return Content("\n").join(wrapped(words, width, " · "))


def _refused(what: str, why: str) -> Content:
    return Content.assemble(("✗ ", "$text-error"), (what, "bold $text-error"), f" {why}")


def sentence(words: str) -> str:
    """With a full stop, where nothing else ends it."""
    return words if words.endswith((".", "?", "!")) else f"{words}."


def _where(best: GpuFit, judgement: Judgement) -> str:
    name, spare = name_of(best, judgement.gpus, judgement.elsewhere), figures.memory(abs(best.headroom_mib))
    if best.headroom_mib < 0:
        return f"does not fit {name}: {spare} are missing"
    if best.uuid == "cpu" and best.fits:
        needed, free = figures.gib(best.predicted_process_mib), figures.gib(best.free_mib)
        return f"runs on the CPU, over {needed} of {free} GiB free"
    return f"fits {name}, {spare} to spare" if best.fits else f"fits {name}, too tightly: {spare} to spare"


def name_of(fit: GpuFit, gpus: Sequence[Gpu], elsewhere: str) -> str:
    """A GPU as the screen calls it: `gpu1 H200`, as its number is what a profile names it by; `H200 (not here)` for a kind."""
    if fit.uuid == "cpu":
        return "CPU"
    short = short_names([fit.name])
    index = next((gpu.index for gpu in gpus if gpu.uuid == fit.uuid), None)
    if index is not None:
        return f"gpu{index} {short}"
    return f"{short} (not here)" if elsewhere else short


def ends(seconds: tuple[float, float], now: float) -> str:
    """How long, and when that would be over if it began now: `3-10m, ends 14:05-14:12`, `1-3d, ends Sun 09:30 to Tue 14:05`."""
    if seconds[1] < 1:
        return "within a second"
    span = figures.span(*map(figures.duration, seconds))
    first, last = (figures.clock(now + each, now) for each in seconds)
    between = " to " if " " in last else "-"
    return f"{span}, ends {last if first == last else f'{first}{between}{last}'}"
