"""The parts of a run's page in words: what each says, as lines that fit a width."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from textual.content import Content

from engine.ledger.best import higher_is_better
from engine.ledger.differences import flat
from engine.ledger.jobs import Job
from engine.ledger.states import State
from screens.runs.diff import plain
from screens.runs.whole import Whole
from screens.widgets import figures, scales, states
from screens.widgets.events import MARKS, STYLES, in_a_line
from screens.widgets.line import shortened

MUTED: Final = "$foreground-muted"
LABEL: Final = 12  # columns
SCORES: Final = 4  # of an evaluation
PRINT: Final = 16  # characters of a fingerprint that tell it from others

Cell = str | Content


Told = Callable[[Whole, float, int], Content]
Count = Callable[[Whole], int]


@dataclass(frozen=True)
class Part:
    """`told` gives its lines for a time and a width, None where a widget of its own shows it; `count` how many there are of what it lists."""

    name: str
    told: Told | None
    count: Count | None = None


def _overview(whole: Whole, now: float, width: int) -> Content:
    return Content("\n").join(_labelled(label, text, width) for label, text in _facts(whole, now) if text)


def _facts(whole: Whole, now: float) -> Iterator[tuple[str, Cell]]:
    run, settings = whole.run, whole.settings
    yield "state", Content.styled(*states.styled(run.state, run.cause, whole.place))
    newest = next((job for job in reversed(whole.jobs) if job.kind == "train"), None)
    if newest and run.state is State.FAILED:
        yield from _lines("", newest.message)
    if newest and run.state in (State.QUEUED, State.STARTING):
        yield "now", newest.doing
    done = f"{run.step:,} of {run.steps:,} steps" if run.steps else f"{run.step:,} steps"
    yield (
        "progress",
        done + (f", ends {figures.clock(run.ends, now)}" if run.state is State.RUNNING and run.ends else ""),
    )
    if (loss := whole.summary.get("validation/loss")) and loss.best is not None:
        best = f"best {figures.value(loss.best)} at step {figures.count(loss.best_step)}"
        yield "validation", f"{best}, last {figures.value(loss.last)} at step {figures.count(loss.last_step)}"
    yield "created", time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))
    yield "tags", " ".join(whole.tags)
    yield "sweep", run.sweep
    yield (
        "",
        Content.styled("★ the baseline of the runs it may be compared with" if run.baseline else "", "$text-success"),
    )
    yield "archived", figures.clock(run.archived, now) if run.archived else ""
    yield "from", run.source
    yield "base", str(settings.get("model.base", ""))
    words = (str(settings.get(key, "")) for key in ("training.objective", "method.name", "model.quantization"))
    yield "method", ", ".join(word for word in words if word not in ("", "none"))
    yield "trained on", run.gpu
    yield "memory", _memory(whole)
    yield "result", f"{run.result_kind}: {run.result}" if run.result else ""
    yield (
        "folder",
        str(run.folder)
        if whole.folder_there
        else Content.assemble(str(run.folder), ("  not on this machine", "$text-warning")),
    )
    yield "uid", run.uid
    yield "comparable", f"{run.comparable[:PRINT]}: losses of runs with this may be compared" if run.comparable else ""


def _lines(label: str, text: str) -> Iterator[tuple[str, Cell]]:
    for place, line in enumerate(filter(None, text.splitlines())):
        yield label if not place else "", Content.styled(line, "$text-error" if not place else "")


def _memory(whole: Whole) -> str:
    predicted, measured = whole.run.predicted_mib, whole.run.measured_mib
    parts = [f"predicted {figures.gib(predicted)} GiB"] if predicted is not None else []
    parts += [f"measured {figures.gib(measured)} GiB"] if measured is not None else []
    if predicted and measured:
        parts.append(f"{(measured - predicted) / predicted:+.1%} of what was predicted")
    return ", ".join(parts)


def _metrics(whole: Whole, now: float, width: int) -> Content:
    rows = []
    for key, summary in sorted(
        whole.summary.items(), key=lambda item: (not item[0].startswith("validation/"), item[0])
    ):
        judged = key.endswith("/loss") or higher_is_better(key)
        best = (figures.value(summary.best), figures.count(summary.best_step)) if judged else ("", "")
        rows.append((key, figures.value(summary.last), figures.count(summary.last_step), *best))
    return _grid(("metric", "last", "at", "best", "at"), rows, width, right=(1, 2, 3, 4))


def _profile(whole: Whole, now: float, width: int) -> Content:
    """Tables, keys and comments told apart."""

    def shown(line: str) -> Content:
        key, equals, value = line.partition("=")
        if line.startswith("["):
            return Content.styled(line, "bold $text-accent")
        if line.startswith("#"):
            return Content.styled(line, MUTED)
        return Content.assemble((key + equals, MUTED), value) if equals else Content(line)

    text = whole.document.profile.strip()
    if not text:  # an imported run has no profile, but it may have settings
        return _pairs(whole.settings, width)
    return Content("\n").join(map(shown, text.splitlines()))


def _environment(whole: Whole, now: float, width: int) -> Content:
    told = {key: value for key, value in whole.document.environment.items() if key not in ("lineage", "inventory")}
    prints = _pairs(whole.document.fingerprints, width)
    around = _pairs(flat(told), width)
    return Content("\n").join([_heading("fingerprints"), prints, Content(), _heading("environment"), around])


def _jobs(whole: Whole, now: float, width: int) -> Content:
    lines: list[Content] = []
    for job, seen in zip(reversed(whole.jobs), reversed(whole.seen), strict=True):
        lines.append(
            Content.assemble((f"{job.kind}  ", "bold"), states.styled(seen, job.cause), f"  {_when(job, now)}")
        )
        where = f"process {job.pid} on {job.host}" if job.pid else job.host or ""
        counted = f"{job.doing} {job.done:,} of {job.total:,}" if job.total and job.kind != "train" else ""
        lines += [
            _labelled(label, text, width)
            for label, text in (("", where), ("", counted), *_lines("", job.message))
            if text
        ]
        lines += [_labelled("log", Content.styled(str(job.log), MUTED), width), Content()]
    for order in whole.orders:
        factor = f" {order.value:g}" if order.value is not None else ""
        lines.append(_labelled("order", f"{order.verb}{factor} at step {order.step}  {order.answer}", width))
    return Content("\n").join(lines)


def _when(job: Job, now: float) -> str:
    if job.started is None:
        return f"created {figures.clock(job.created, now)}"
    took = scales.span((job.ended or job.heartbeat or now) - job.started)
    return f"{figures.clock(job.started, now)}, for {took}"


def _events(whole: Whole, now: float, width: int) -> Content:
    """The newest first, what is long wrapped under itself."""
    lines = []
    for event in whole.events:
        style = STYLES[event.level]
        when = figures.clock_with_seconds(event.time, now).ljust(LABEL - 2)
        text = Content.styled(in_a_line(event), style)
        lines.append(_beside(Content.assemble((when, MUTED), (MARKS[event.level] + " ", style)), text, width))
    return Content("\n").join(lines)


def _checkpoints(whole: Whole, now: float, width: int) -> Content:
    rows: list[tuple[Cell, ...]] = [
        (
            f"{each.step:,}",
            figures.clock(each.time, now),
            figures.size(each.bytes),
            figures.value(each.validation),
            Content.styled("★ best" if each.best else "", "$text-success"),
            _there(whole, str(each.path)),
        )
        for each in reversed(whole.checkpoints)
    ]
    return _grid(("step", "saved", "size", "val", "", ""), rows, width, right=(0, 2, 3))


def _there(whole: Whole, path: str) -> Content:
    if not whole.folder_there or path in whole.there:
        return Content(path)
    return Content.assemble(path, (" is gone", "$text-warning"))


def _evaluations(whole: Whole, now: float, width: int) -> Content:
    rows: list[tuple[Cell, ...]] = []
    for each in reversed(whole.evaluations):
        scores = "  ".join(f"{name} {figures.value(score)}" for name, score in list(each.scores.items())[:SCORES])
        done = figures.clock(each.finished, now) if each.finished else Content.styled("not finished", "$text-warning")
        rows.append((each.suite, done, f"{each.n:,}", scores))
    return _grid(("suite", "finished", "n", "scores"), rows, width, right=(2,))


def _artifacts(whole: Whole, now: float, width: int) -> Content:
    rows: list[tuple[Cell, ...]] = [
        (
            each.kind,
            figures.clock(each.created, now),
            figures.size(each.bytes),
            each.fingerprint[:PRINT],
            _there(whole, each.path),
        )
        for each in reversed(whole.artifacts)
    ]
    return _grid(("kind", "left", "size", "fingerprint", "path"), rows, width, right=(2,))


PARTS: Final = (
    Part("overview", _overview),
    Part("note", None),
    Part("lineage", None, lambda whole: len(whole.relatives)),
    Part("metrics", _metrics, lambda whole: len(whole.summary)),
    Part("profile", _profile),
    Part("versions", _environment),
    Part("jobs", _jobs, lambda whole: len(whole.jobs)),
    Part("events", _events, lambda whole: len(whole.events)),
    Part("checkpoints", _checkpoints, lambda whole: len(whole.checkpoints)),
    Part("evaluations", _evaluations, lambda whole: len(whole.evaluations)),
    Part("artifacts", _artifacts, lambda whole: len(whole.artifacts)),
)

# How lines are put together


def _heading(text: str) -> Content:
    return Content.styled(text, "bold $text-accent")


def _labelled(label: str, text: Cell, width: int) -> Content:
    return _beside(Content.styled(label.ljust(LABEL), MUTED), text, width)


def _beside(left: Content, text: Cell, width: int) -> Content:
    """The text behind what stands left of it, its further lines indented as far."""
    content = Content(text) if isinstance(text, str) else text
    first, *more = content.wrap(max(10, width - left.cell_length)) or [Content()]
    return Content("\n").join([left + first, *(line.pad_left(left.cell_length) for line in more)])


def _pairs(found: Mapping[str, object], width: int) -> Content:
    """Keys as wide as the widest, values wrapped beside them."""
    room = min(max((cell_len(key) for key in found), default=0), width // 2)
    lines = [
        _beside(Content.styled(shortened(key, room).ljust(room + 2), MUTED), plain(value), width)
        for key, value in found.items()
    ]
    return Content("\n").join(lines)


def _grid(titles: Sequence[str], rows: Sequence[Sequence[Cell]], width: int, *, right: Sequence[int] = ()) -> Content:
    """Aligned columns under their titles, nothing without rows; what the last one has no room for goes on under it."""
    if not rows:
        return Content()
    texts = [[Content(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max([cell_len(title), *(row[place].cell_length for row in texts)]) for place, title in enumerate(titles)]
    heads = [Content.styled(title, f"bold {MUTED}") for title in titles]
    lines = []
    for row in [heads, *texts]:
        *cells, last = [
            cell.pad_left(widths[place] - cell.cell_length)
            if place in right
            else cell.pad_right(widths[place] - cell.cell_length)
            for place, cell in enumerate(row)
        ]
        before = Content("  ").join([*cells, Content()])
        lines.append(_beside(before, row[-1] if len(row) - 1 not in right else last, width))
    return Content("\n").join(lines)
