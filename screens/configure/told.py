"""The estimate beside the form: a bar for each GPU, what is in it, how long it takes, what to change, and what to know.

On a narrow screen it is a few lines under the form, for the GPU that the run would go to; zoomed, or on a wide one, everything.
"""

from __future__ import annotations

from collections.abc import Callable

from textual.content import Content

from engine.fit.estimate import GpuFit
from engine.fit.facts import Facts
from engine.fit.failures import Failure
from screens.configure import rungs
from screens.configure.bars import Colour, bar, legend, wrapped
from screens.configure.fields import shown
from screens.configure.judging import Judgement
from screens.configure.verdict import name_of
from screens.widgets import figures

MUTED = "$foreground-muted"
LEAST_KWH = 0.01  # less is told as less
SMALL_MIB = 1024.0  # of memory: less is told in MiB
FEW = 2  # GPUs that have a line on a narrow screen


def beside(judgement: Judgement | None, width: int, colour: Colour, now: float, *, full: bool) -> Content:
    """All of it, `full`, or the lines that matter most."""
    if judgement is None or judgement.best is None or judgement.facts is None:
        return Content()
    best = judgement.best
    others = [fit for fit in judgement.fits if fit is not best]
    if full:
        lines = [line for fit in (best, *others) for line in _gpu(fit, judgement, width, colour)]
        lines += [Content(), *wrapped(_filled(best, colour), width), _source(judgement, best)]
        lines += [Content(), *_phases(best, width)]
        step = [Content(f"a step {_span(best.step_seconds, figures.seconds)}")] if best.step_seconds else []
        lines += [*wrapped([*_time(best), *step], width, " · "), *wrapped(_how(best), width, " · "), Content()]
        lines += [*rungs.lines(best, width), *([Content()] if best.ladder else [])]
        return Content("\n").join([*lines, *_past(judgement, now), *_notes(judgement)])
    lines = [_gpu_line(fit, judgement, width, colour) for fit in (best, *others[: FEW - 1])]
    lines += [*_past(judgement, now), *wrapped(_filled(best, colour), width)]
    if best.ladder:
        lines.append(Content.assemble((f"{rungs.title(best)}:  ", MUTED), rungs.words(best.ladder)))
    speed = _time(best)[1:] if best.seconds else _time(best)  # the verdict says how long
    lines += wrapped([_source(judgement, best), *speed, *_how(best)], width, " · ")
    lines += _notes(judgement)[:1]
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


def _filled(fit: GpuFit, colour: Colour) -> list[Content]:
    """What the best GPU's bar consists of."""
    return legend(fit.parts, fit.total_mib - fit.free_mib, colour)


def _source(judgement: Judgement, fit: GpuFit) -> Content:
    """`simulated, ±2 % in 9 runs`: how figures are come by, and how wrong such figures were on this GPU."""
    errors = judgement.errors
    past = f", ±{errors.mean_pct:.0f} % in {errors.runs} run{'s' if errors.runs > 1 else ''}" if errors else ""
    waits = f", {judgement.unsimulated}" if judgement.unsimulated else ""
    return Content.assemble((fit.source, "bold" if fit.source == "simulated" else "italic"), (past + waits, MUTED))


def _time(fit: GpuFit) -> list[Content]:
    """How long, how fast, and how much energy."""
    told = [Content(_span(fit.seconds, figures.duration) if fit.seconds else "how long is not known")]
    if fit.tokens_per_second:
        told.append(Content(f"{_span(fit.tokens_per_second, figures.rough)} tok/s"))
    if fit.kwh:
        told.append(Content(f"{_span(fit.kwh, figures.rough) if fit.kwh[1] >= LEAST_KWH else '<.01'} kWh"))
    return told


def _span(between: tuple[float, float], written: Callable[[float], str]) -> str:
    return figures.span(*map(written, between))


def _how(fit: GpuFit) -> list[Content]:
    """How it would be run, and how far that could go."""
    most = f" of at most {fit.micro_batch_max}" if fit.micro_batch_max else ", which does not fit"
    told = [Content.assemble(("micro-batch ", MUTED), f"{fit.micro_batch}", (most, MUTED))]
    told.append(Content(f"activations {'recomputed' if fit.checkpoint_activations else 'kept'}"))
    if fit.ranks > 1:
        each = "holds a part" if fit.sharding == "shard" else "holds all"
        told.append(Content(f"{fit.ranks} GPUs, each {each}"))
    if fit.longest_tokens:
        told.append(Content.assemble(("rows fit up to ", MUTED), f"{fit.longest_tokens:,}", (" tokens", MUTED)))
    return told


def _phases(fit: GpuFit, width: int) -> list[Content]:
    """What tensors take in each phase, and what is reserved for them; nothing where formulas do not tell phases apart."""
    peak = max((allocated for allocated, _ in fit.phases.values()), default=0.0)
    if not peak:
        return []
    room = max(8, width - 12 - 2 * 10)
    unit, written = ("GiB", figures.gib) if peak >= SMALL_MIB else ("MiB", lambda mib: f"{mib:,.0f}")
    lines = [
        Content.assemble(
            (f"{phase:<11} ", MUTED),
            f"{'━' * round(allocated * room / peak):<{room}}",
            (f"{written(allocated):>10}", "bold" if allocated == peak else ""),
            f"{written(reserved):>10}",
        )
        for phase, (allocated, reserved) in fit.phases.items()
    ]
    head = Content.styled(f"{f'phase, {unit}':<{12 + room}}{'allocated':>10}{'reserved':>10}", MUTED)
    return [head, *lines, Content()]


def rows(facts: Facts) -> str:
    """The data in a few words: rows to train, validate and test with, and how long they are."""
    counts = f"{facts.train_rows:,}/{facts.validation_rows:,}/{facts.test_rows:,} rows"
    return f"{counts} of {facts.mean_tokens:,.0f} tokens, longest {facts.max_tokens:,}"


def _past(judgement: Judgement, now: float) -> list[Content]:
    """Runs like this one that failed."""
    return [Content.styled(f"! {_failed(failure, now)}", "$text-warning") for failure in judgement.failures]


def _notes(judgement: Judgement) -> list[Content]:
    return [Content.styled(f"· {note}", MUTED) for note in judgement.notes]


def _failed(failure: Failure, now: float) -> str:
    """`a run like this failed here: OOM at 12, pubmedqa-lora-16, 3d ago; rank was 8, is 16`."""
    changed = ", ".join(
        f"{key.rpartition('.')[2].replace('_', ' ')} was {shown(then)}, is {shown(is_now)}"
        for key, then, is_now in failure.differs
    )
    ago = figures.duration(now - failure.created)
    return f"a run like this failed here: {failure.cause}, {failure.run}, {ago} ago" + (
        f"; {changed}" if changed else ""
    )
