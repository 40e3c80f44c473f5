"""The run under the cursor in words: what it is, its loss, its memory, what sets it apart, what happened last."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from textual.content import Content

from engine.ledger.events import Event
from engine.ledger.states import LIVE, State
from screens.runs.diff import plain
from screens.runs.reading import Detail
from screens.widgets import figures, plot, states
from screens.widgets.line import shortened

LABEL = 9  # columns
SHORTEST_NAME = 24  # columns
LONGEST_VALUE = 24  # columns of a setting that differs
MARKS = {"info": "  ", "warning": "! ", "error": "✗ "}
STYLES = {"info": "", "warning": "$text-warning", "error": "$text-error"}


def told(detail: Detail, width: int, lines: int, now: float, *, wrap: bool) -> Content:
    """At most `lines` lines of at most `width` columns; longer ones are cut, or wrapped beside their label."""
    name, what = Content.styled(detail.row.run.name, "bold $text-accent"), _what(detail)
    if wrap and name.cell_length + what.cell_length + 3 > width:
        made = [*name.wrap(width), *what.wrap(width)]
    else:
        short = name.truncate(max(SHORTEST_NAME, width - what.cell_length - 3), ellipsis=True)
        made = [(short + Content(" · ") + what).truncate(width, ellipsis=True)]
    for line in _lines(detail, width, now):
        made += _wrapped(line, width) if wrap else [line.truncate(width, ellipsis=True)]
    return Content("\n").join(made[:lines])


def _wrapped(line: Content, width: int) -> list[Content]:
    if line.cell_length <= width:
        return [line]
    label, text = line[:LABEL], line[LABEL:]
    parts = text.wrap(max(10, width - LABEL))
    return [label + parts[0], *(part.pad_left(LABEL) for part in parts[1:])]


def _lines(detail: Detail, width: int, now: float) -> Iterator[Content]:
    if detail.row.run.state is State.LOST:
        yield _labelled(
            "lost", Content.styled("Its process is gone. R resumes it from its newest checkpoint.", "$text-warning")
        )
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
    yield from _differences(detail)
    if detail.row.run.note:
        yield _labelled("note", Content(detail.row.run.note))
    for place, event in enumerate(detail.events):
        yield _labelled("last" if not place else "", _event(event, now))


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
    row, settings = detail.row, detail.settings
    quantization = settings.get("model.quantization", "none")
    parts = [row.base + (f" {quantization}" if quantization != "none" else "")]
    if settings.get("method.name") == "lora":
        targets = settings.get("method.targets")
        where = (
            targets if isinstance(targets, str) else ", ".join(map(str, targets)) if isinstance(targets, list) else ""
        )
        parts.append(
            f"{row.method} {settings.get('method.rank')}/{plain(settings.get('method.alpha'))} {where}".strip()
        )
    else:
        parts.append(row.method)
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
    run = detail.row.run
    if run.predicted_mib is None and run.measured_mib is None:
        return None
    measured = f"{figures.gib(run.measured_mib)} GiB" if run.measured_mib is not None else ""
    predicted = f"predicted {figures.gib(run.predicted_mib)}" if run.predicted_mib is not None else ""
    return _labelled(
        "memory", Content(f"{measured}, {predicted}" if measured and predicted else measured or f"{predicted} GiB")
    )


def _differences(detail: Detail) -> Iterator[Content]:
    if detail.other is None:
        return
    against = Content.assemble(("against ", "$foreground-muted"), detail.other.name)
    if not detail.differs:
        yield _labelled("differs", Content("in nothing ") + against)
        return
    shown = Content("  ").join(
        Content.assemble((key, "$foreground-muted"), f" {_brief(here)} ", (f"({_brief(there)})", "$foreground-muted"))
        for key, here, there in detail.differs[:4]
    )
    more = f"  and {len(detail.differs) - 4} more" if len(detail.differs) > 4 else ""
    yield _labelled("differs", shown + Content.styled(more, "$foreground-muted") + Content("  ") + against)


def _brief(value: object) -> str:
    return shortened(" ".join(plain(value).split()), LONGEST_VALUE)


def _event(event: Event, now: float) -> Content:
    step = f" at step {event.step}" if event.step is not None and str(event.step) not in event.text else ""
    when = figures.clock(event.time, now)
    return Content.assemble(
        (f"{when} ", "$foreground-muted"),
        (MARKS[event.level], STYLES[event.level]),
        (" ".join(event.said.split()) + step, STYLES[event.level]),
    )


def counted(found: dict[State, int]) -> Content:
    """How many runs are in each state: `● 2 running  ✗ 1 failed`."""
    return Content("  ").join(
        Content.assemble((states.SYMBOLS[state], states.STYLES[state]), f" {found[state]} {state}")
        for state in State
        if state in found
    )
