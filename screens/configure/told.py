"""The estimate beside the form: a bar for each GPU, what is in it, how long it takes, what to change, and what to know.

On a narrow screen it is a few lines under the form, for the GPU that the run would go to; zoomed, or on a wide one, everything.
"""

from __future__ import annotations

from textual.content import Content

from engine.fit.estimate import GpuFit
from engine.fit.facts import Facts
from screens.configure import rungs
from screens.configure.bars import Colour, bar, legend, wrapped
from screens.configure.judging import Judgement
from screens.configure.verdict import name_of
from screens.widgets import figures

MUTED = "$foreground-muted"
FEW = 2  # GPUs that have a line on a narrow screen


def beside(judgement: Judgement | None, width: int, colour: Colour, *, full: bool) -> Content:
    """All of it, `full`, or the lines that matter most."""
    if judgement is None or judgement.best is None or judgement.facts is None:
        return Content()
    best = judgement.best
    others = [fit for fit in judgement.fits if fit is not best]
    if full:
        lines = [line for fit in (best, *others) for line in _gpu(fit, judgement, width, colour)]
        lines += [Content(), *_filled(best, width, colour), *_time(best, width), Content()]
        lines += [*rungs.lines(best, width), *([Content()] if best.ladder else [])]
        return Content("\n").join([*lines, *_to_know(judgement), _source(judgement)])
    lines = [_gpu_line(fit, judgement, width, colour) for fit in (best, *others[: FEW - 1])]
    lines += [*_filled(best, width, colour), *_time(best, width)[:1]]
    if best.ladder:
        lines.append(Content.assemble((f"{rungs.title(best)}:  ", MUTED), rungs.words(best.ladder)))
    lines += _to_know(judgement)
    return Content("\n").join(line.truncate(width, ellipsis=True) for line in lines)


def _figures(fit: GpuFit) -> Content:
    """`18.3 of 23.4 GiB ✓`, in columns of one width."""
    symbol, style = ("✓", "$text-success") if fit.fits else ("✗", "$text-error")
    needed, free = figures.gib(fit.predicted_process_mib), figures.gib(fit.free_mib)
    return Content.assemble((f"{needed:>5}", "bold"), (f" of {free:>4} GiB free ", MUTED), (symbol, style))


def _gpu_line(fit: GpuFit, judgement: Judgement, width: int, colour: Colour) -> Content:
    """One GPU: its name, its bar, its figures."""
    names = [name_of(each, judgement.gpus, judgement.elsewhere) for each in judgement.fits]
    name, told = f"{name_of(fit, judgement.gpus, judgement.elsewhere):<{max(map(len, names))}}", _figures(fit)
    room = width - len(name) - told.cell_length - 3
    return Content.assemble((name, "bold"), "  ", bar(fit, _headroom(judgement), max(8, room), colour), " ", told)


def _gpu(fit: GpuFit, judgement: Judgement, width: int, colour: Colour) -> list[Content]:
    """One GPU: its name and figures, its bar under them."""
    name, told = name_of(fit, judgement.gpus, judgement.elsewhere), _figures(fit)
    blank = " " * max(1, width - len(name) - told.cell_length)
    return [Content.assemble((name, "bold"), blank, told), bar(fit, _headroom(judgement), width, colour)]


def _headroom(judgement: Judgement) -> float:
    assert judgement.profile is not None
    return judgement.profile.hardware.headroom_mib


def _filled(fit: GpuFit, width: int, colour: Colour) -> list[Content]:
    return wrapped(legend(fit.parts, fit.total_mib - fit.free_mib, colour), width)


def _time(fit: GpuFit, width: int) -> list[Content]:
    """How long and how it would be run."""
    span = f"{figures.duration(fit.seconds[0])} to {figures.duration(fit.seconds[1])}" if fit.seconds else "not known"
    told = [Content.assemble(("time ", MUTED), span)]
    if fit.kwh:
        told.append(Content(f"{figures.value(fit.kwh[0])} to {figures.value(fit.kwh[1])} kWh"))
    told.append(
        Content.assemble(
            ("micro-batch ", MUTED),
            f"{fit.micro_batch}",
            (f" of at most {fit.micro_batch_max}, activations ", MUTED),
            "recomputed" if fit.checkpoint_activations else "kept",
        )
    )
    return wrapped(told, width)


def rows(facts: Facts) -> str:
    """The data in a few words: rows to train, validate and test with, and how long they are."""
    counts = f"{facts.train_rows:,}/{facts.validation_rows:,}/{facts.test_rows:,} rows"
    return f"{counts} of {facts.mean_tokens:,.0f} tokens, at most {facts.max_tokens:,}"


def _to_know(judgement: Judgement) -> list[Content]:
    return [Content.styled(f"· {note}", MUTED) for note in judgement.notes]


def _source(judgement: Judgement) -> Content:
    return Content.styled("Figures are estimated by formulas, not simulated.", MUTED)
