"""The judgement in words, figures and a bar: the verdict first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from textual.content import Content

from engine.fit.estimate import GpuFit, Parts
from engine.fit.ladder import Rung
from screens.configure.judging import Judgement
from screens.widgets import figures

SHADES: Final = (
    ("█", ("weights",)),
    ("▓", ("adapter", "gradients", "optimizer")),
    ("▒", ("activations", "logits")),
    ("░", ("temporaries", "context")),
)
"""What each shade of the bar holds, from what stays to what passes."""
BAR: Final = 24  # cells: all memory of the GPU


def verdict(judgement: Judgement | None, problems: Mapping[str, str], now: float) -> Content:
    """In one line whether it can run, where, and until when."""
    if problems:
        key, reason = next(iter(problems.items()))
        many = f"{len(problems)} values are wrong" if len(problems) > 1 else "a value is wrong"
        return Content.assemble(
            ("✗ ", "$text-error"),
            (f"{many}: ", "bold $text-error"),
            reason if reason.startswith(key) else f"{key}  {reason}",
        )
    if judgement is None:
        return Content.styled("looking at base and data ...", "$foreground-muted")
    if judgement.problem is not None:
        problem = judgement.problem
        why = " ".join(part for part in (problem.why, problem.do) if part)
        return Content.assemble(("✗ ", "$text-error"), (problem.what, "bold $text-error"), ("  " + why, ""))
    best = judgement.best
    assert best is not None
    assert judgement.estimate is not None
    words = [_where(best, judgement), f"{judgement.estimate.steps:,} steps"]
    if best.seconds:
        words.append(ends(best.seconds, now))
    good = "$text-success" if best.fits else "$text-error"
    return Content.assemble(
        ("✓ " if best.fits else "✗ ", good), (words[0], f"bold {good}"), "  ·  ".join(["", *words[1:]])
    )


def _where(best: GpuFit, judgement: Judgement) -> str:
    name = f"{best.name} (not here)" if judgement.elsewhere else best.name
    spare = figures.gib(abs(best.headroom_mib))
    if best.uuid == "cpu":
        if best.fits:
            return f"runs on the CPU, over {figures.gib(best.predicted_process_mib)} GiB of {figures.gib(best.free_mib)} free"
        return f"does not fit this machine's memory: {spare} GiB are missing"
    if best.fits:
        return f"fits {name}, {spare} GiB to spare"
    missing = figures.gib(max(1.0, best.predicted_process_mib - best.free_mib))
    return f"does not fit {name}: {missing} GiB are missing" if best.headroom_mib < 0 else f"fits {name}, too tightly"


def ends(seconds: tuple[float, float], now: float) -> str:
    """How long, and when that would be over if it began now."""
    if seconds[1] < 1:
        return "within a second"
    low, high = figures.duration(seconds[0]), figures.duration(seconds[1])
    span = low if low == high else f"{low} to {high}"
    return f"{span}, by {figures.clock(now + seconds[1], now)}"


def beside(judgement: Judgement | None, width: int, *, wide: bool, ladder: bool) -> Content:
    """The estimate for each GPU: bar and parts, time, what would make it fit or faster."""
    if judgement is None or not judgement.fits or judgement.facts is None:
        return Content()
    facts = judgement.facts
    lines: list[Content] = []
    shown = judgement.fits if wide else tuple(fit for fit in (judgement.best,) if fit)
    for fit in shown:
        lines += _gpu(fit, width, wide=wide)
    rows = f"{facts.train_rows:,} training, {facts.validation_rows:,} validation, {facts.test_rows:,} test rows"
    lines.append(
        Content.assemble(
            ("rows  ", "$foreground-muted"), f"{rows}, {facts.mean_tokens:,.0f} tokens, at most {facts.max_tokens:,}"
        )
    )
    if judgement.best and judgement.best.ladder and (wide or ladder):
        lines += _ladder(judgement.best)
    lines += [Content.styled(f"· {note}", "$foreground-muted") for note in judgement.notes]
    if wide:
        lines.append(Content.styled("Figures are estimated by formulas, not simulated.", "$foreground-muted"))
    return Content("\n").join(line if wide else line.truncate(width, ellipsis=True) for line in lines)


def _gpu(fit: GpuFit, width: int, *, wide: bool) -> list[Content]:
    style = "" if fit.fits else "$text-error"
    head = Content.assemble(
        (f"{fit.name}  ", "bold"),
        (f"{figures.gib(fit.free_mib)} of {figures.gib(fit.total_mib)} GiB free", "$foreground-muted"),
    )
    bar = Content.assemble(
        bar_of(fit),
        (f" {figures.gib(fit.predicted_process_mib)} GiB", f"bold {style}".strip()),
        "" if fit.fits else "  does not fit",
    )
    how = f"micro-batch {fit.micro_batch}, activations {'recomputed' if fit.checkpoint_activations else 'kept'}"
    span = f"{figures.duration(fit.seconds[0])} to {figures.duration(fit.seconds[1])}" if fit.seconds else "not known"
    energy = f", {figures.value(fit.kwh[0])} to {figures.value(fit.kwh[1])} kWh" if fit.kwh else ""
    time = Content.assemble(("time  ", "$foreground-muted"), f"{span}{energy}   ", (how, "$foreground-muted"))
    if wide:
        return [head, bar, *_parts(fit.parts), time, Content()]
    first, second, third, fourth = _parts(fit.parts)
    return [
        Content("  ").join((head, bar)),
        Content("  ").join((first, second)),
        Content("  ").join((third, fourth)),
        time,
    ]


def bar_of(fit: GpuFit) -> Content:
    """All memory of a GPU as a bar: what others hold, what the run would hold by kind, what stays free."""
    scale = BAR / fit.total_mib
    taken = round((fit.total_mib - fit.free_mib) * scale)
    cells = [("╱" * taken, "$foreground-muted")]
    edge = used = 0.0
    for shade, names in SHADES:
        edge += sum(getattr(fit.parts, name) for name in names) * scale
        count = max(0, round(edge) - round(used))
        cells.append((shade * count, "$text-accent" if fit.fits else "$text-error"))
        used = edge
    length = sum(len(text) for text, _ in cells)
    whole = Content.assemble(*cells, ("·" * max(0, BAR - length), "$foreground-muted"))
    return whole.truncate(BAR - 1) + Content.styled("▶", "$text-error") if length > BAR else whole


def _parts(parts: Parts) -> list[Content]:
    """A line for each shade of the bar."""
    told = []
    for shade, names in SHADES:
        each = [f"{'other' if name == 'temporaries' else name} {figures.gib(getattr(parts, name))}" for name in names]
        told.append(Content.assemble((f"{shade} ", "$text-accent"), "  ".join(each)))
    return told


def _ladder(fit: GpuFit) -> list[Content]:
    title = "faster, and it still fits" if fit.fits else "to make it fit, one on top of the other"
    return [Content(), Content.styled(title, "bold"), *(_rung(rung) for rung in fit.ladder)]


def _rung(rung: Rung) -> Content:
    change = ", ".join(
        f"{key.rpartition('.')[2].replace('_', ' ')} {_word(value)}" for key, value in rung.change.items()
    )
    saves = f"-{figures.gib(rung.saves_mib)}" if rung.saves_mib >= 0 else f"+{figures.gib(-rung.saves_mib)}"
    time = f"  time {rung.time - 1:+.0%}" if rung.time else ""
    mark = ("✓ ", "$text-success") if rung.fits else ("· ", "$foreground-muted")
    return Content.assemble(mark, change, (f"  {saves} GiB{time}", "bold"), (f"  {rung.price}", "$foreground-muted"))


def _word(value: object) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)
