"""The run under the cursor in words: what it is, its loss, its memory, what sets it apart, what happened last."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from textual.content import Content

from engine.ledger import facts
from engine.ledger.events import Event
from engine.ledger.states import LIVE, State
from engine.ledger.table import Row
from screens.runs.diff import plain
from screens.runs.grouping import GROUPINGS
from screens.runs.looking import Detail, Together
from screens.runs.scene import VERSUS, Scene, best_loss
from screens.widgets import figures, plot, states
from screens.widgets.events import MARKS, STYLES, in_a_line
from screens.widgets.line import shortened

LABEL = 9  # columns
SHORTEST_NAME = 24  # columns
LONGEST_VALUE = 24  # columns of a setting that differs
SOME = 4  # settings that differ, and values of one, before the rest is counted


def told(detail: Detail, scene: Scene, width: int, lines: int, *, wrap: bool) -> Content:
    """At most `lines` lines of at most `width` columns; longer ones are cut, or wrapped beside their label."""
    name, what = Content.styled(detail.row.name, "bold $text-accent"), _what(detail)
    if not what:  # an imported run says neither
        made = name.wrap(width) if wrap else [name.truncate(width, ellipsis=True)]
    elif wrap and name.cell_length + what.cell_length + 3 > width:
        made = [*name.wrap(width), *what.wrap(width)]
    else:
        short = name.truncate(max(SHORTEST_NAME, width - what.cell_length - 3), ellipsis=True)
        made = [(short + Content(" · ") + what).truncate(width, ellipsis=True)]
    return _laid_out(made, _lines(detail, scene, width), width, lines, wrap=wrap)


def told_of_group(told: Together, width: int, lines: int, *, wrap: bool) -> Content:
    """The same about runs that are together: their states, the best of them, and in which settings they differ."""
    group, many = told.group, len(told.group.rows)
    runs = f" · {many:,} run{'s' if many != 1 else ''}"
    name = Content.assemble((f"{GROUPINGS[group.by]} {group.name}", "bold $text-accent"), runs)
    return _laid_out([name.truncate(width, ellipsis=True)], _lines_of_group(told), width, lines, wrap=wrap)


def _laid_out(made: list[Content], told: Iterator[Content], width: int, lines: int, *, wrap: bool) -> Content:
    for line in told:
        made += _wrapped(line, width) if wrap else [line.truncate(width, ellipsis=True)]
    return Content("\n").join(made[:lines])


def _lines_of_group(told: Together) -> Iterator[Content]:
    yield _labelled("states", counted(told.group.states))
    if told.best is not None:
        yield _labelled("best", Content.assemble((figures.value(best_loss(told.best)), "bold"), f"  {told.best.name}"))
    for place, (key, values) in enumerate(told.varied):
        some = ", ".join(map(_brief, values[:SOME])) + (f" and {len(values) - SOME} more" if len(values) > SOME else "")
        yield _labelled("varied" if not place else "", Content.assemble((f"{key}  ", "$foreground-muted"), some))


def _wrapped(line: Content, width: int) -> list[Content]:
    if line.cell_length <= width:
        return [line]
    label, text = line[:LABEL], line[LABEL:]
    parts = text.wrap(max(10, width - LABEL))
    return [label + parts[0], *(part.pad_left(LABEL) for part in parts[1:])]


def _lines(detail: Detail, scene: Scene, width: int) -> Iterator[Content]:
    if detail.row.state is State.LOST:
        words = (
            "Its process is gone and left no word. Go on with it where you started it."
            if detail.row.source
            else "Its process is gone. R resumes it from its newest checkpoint."
        )
        yield _labelled("lost", Content.styled(words, "$text-warning"))
    for place, part in enumerate(filter(None, detail.message.splitlines())):
        yield _labelled("failed" if not place else "", Content.styled(part, "$text-error" if not place else ""))
    if detail.doing:
        yield _labelled("now", Content(detail.doing))
    yield from _beside(detail)
    memory = _memory(detail)
    curve = _curve(detail, min(40, max(8, width - LABEL - 16)))
    if memory and curve and curve.cell_length + memory.cell_length + 3 <= width:
        yield curve + Content("   ") + memory
    else:
        yield from (line for line in (curve, memory) if line)
    yield from _versus(detail, scene)
    yield from _differences(detail)
    if labels := _labels(detail.row):
        (label, first), *others = labels
        yield _labelled(label, Content(" · ".join([first, *(" ".join(filter(None, each)) for each in others)])))
    if detail.row.note:
        yield _labelled("note", Content(first_line(detail.row.note)))
    for place, event in enumerate(detail.events):
        yield _labelled("last" if not place else "", _event(event, scene.now))


def first_line(note: str) -> str:
    """Of a note in Markdown, without what makes it a heading."""
    return next(filter(None, (line.strip().lstrip("# ") for line in note.splitlines())), "")


def _labels(row: Row) -> list[tuple[str, str]]:
    """Tags, sweep, and where it comes from if it was not trained here, each behind its label."""
    parts = (("tags", ", ".join(row.tags)), ("sweep", row.sweep), ("from", row.source))
    return [*(part for part in parts if part[1]), *([("archived", "")] if row.archived is not None else [])]


def _beside(detail: Detail) -> Iterator[Content]:
    """What an evaluation or an export is doing, or why there was none."""
    job, state = detail.beside, detail.beside_state
    if job is None or state is None:
        return
    if state in LIVE:
        counted = f" {job.done}/{job.total}" if job.total else ""
        yield _labelled(job.kind, Content(f"{job.doing or 'waiting for its process'}{counted}"))
    elif state in (State.FAILED, State.LOST):
        what = job.message.splitlines() if state is State.FAILED else ["Its process is gone."]
        yield _labelled(job.kind, Content.styled(f"✗ {' '.join(what)}", "$text-error"))


def _labelled(label: str, text: Content) -> Content:
    return Content.assemble((label.ljust(LABEL), "$foreground-muted"), text)


def _what(detail: Detail) -> Content:
    """Base and method."""
    settings = detail.settings
    quantization = settings.get("model.quantization", "none")
    parts = [facts.model(settings) + (f" {quantization}" if quantization != "none" else "")]
    if settings.get("method.name") == "lora":
        targets = settings.get("method.targets")
        where = (
            targets if isinstance(targets, str) else ", ".join(map(str, targets)) if isinstance(targets, list) else ""
        )
        parts.append(
            f"{facts.method(settings)} {settings.get('method.rank')}/{plain(settings.get('method.alpha'))} {where}".strip()
        )
    else:
        parts.append(facts.method(settings))
    return Content(" · ".join(filter(None, parts)))


def _curve(detail: Detail, width: int) -> Content | None:
    values = detail.curve
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    label = "val" if detail.curve_name.startswith("validation") else "train"
    gaps = len(values) - len(finite)
    return _labelled(
        label,
        Content.assemble(
            figures.value(float(finite[0])),
            " ",
            (plot.sparkline(values, width), "$text-accent"),
            " ",
            figures.value(float(finite[-1])),
            (f"  {gaps} not finite" if gaps else "", "$text-error"),
        ),
    )


def _memory(detail: Detail) -> Content | None:
    if detail.predicted_mib is None and detail.measured_mib is None:
        return None
    measured = f"{figures.gib(detail.measured_mib)} GiB" if detail.measured_mib is not None else ""
    predicted = f"predicted {figures.gib(detail.predicted_mib)}" if detail.predicted_mib is not None else ""
    return _labelled(
        "memory", Content(f"{measured}, {predicted}" if measured and predicted else measured or f"{predicted} GiB")
    )


def _differences(detail: Detail) -> Iterator[Content]:
    if detail.other is None:
        return
    star = "★ " if detail.against_baseline else ""
    apart = Content.assemble(("from ", "$foreground-muted"), star, shortened(detail.other.name, LONGEST_VALUE), "  ")
    if not detail.differs:
        yield _labelled("differs", apart + Content("in nothing"))
        return
    shown = Content("  ").join(
        Content.assemble((key, "$foreground-muted"), f" {_brief(here)} ", (f"({_brief(there)})", "$foreground-muted"))
        for key, here, there in detail.differs[:SOME]
    )
    more = f"  and {len(detail.differs) - SOME} more" if len(detail.differs) > SOME else ""
    yield _labelled("differs", apart + shown + Content.styled(more, "$foreground-muted"))


def _versus(detail: Detail, scene: Scene) -> Iterator[Content]:
    """How the run stands to its baseline, by the best validation loss."""
    above = scene.value(detail.row, VERSUS)
    if not isinstance(above, float) or detail.other is None:
        return
    words = "as good as" if not above else f"{figures.percent(abs(above))} {'better' if above < 0 else 'worse'} than"
    mine, its = figures.value(best_loss(detail.row)), figures.value(best_loss(detail.other))
    yield _labelled("best", Content(f"{mine}, {words} ★ ({its})"))


def _brief(value: object) -> str:
    return shortened(" ".join(plain(value).split()), LONGEST_VALUE)


def _event(event: Event, now: float) -> Content:
    when = figures.clock(event.time, now)
    return Content.assemble(
        (f"{when} ", "$foreground-muted"),
        (f"{MARKS[event.level]} ", STYLES[event.level]),
        (in_a_line(event), STYLES[event.level]),
    )


def counted(found: dict[State, int]) -> Content:
    """How many runs are in each state: `● 2 running  ✗ 1 failed`."""
    return Content("  ").join(
        Content.assemble((states.SYMBOLS[state], states.STYLES[state]), f" {found[state]:,} {state}")
        for state in State
        if state in found
    )
