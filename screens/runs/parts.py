"""The parts of a run's page in words: what each says, as lines that fit a width."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from textual.content import Content

from engine.fit import recorded
from engine.fit.question import Phase
from engine.fit.recorded import Figures
from engine.ledger.best import higher_is_better
from engine.ledger.differences import flat
from engine.ledger.jobs import Job
from engine.ledger.states import State
from screens.runs.lines import LABEL, MUTED, Cell, beside, grid, heading, labelled, pairs
from screens.runs.whole import Whole
from screens.widgets import figures, scales, states
from screens.widgets.events import MARKS, STYLES, in_a_line

SCORES: Final = 4  # of an evaluation
TOLD_ELSEWHERE: Final = ("lineage", "inventory", "memory")  # of the environment
MEASURED_BY: Final = {"driver": "the driver", "context": "torch, with CUDA's context added", "resident": "the kernel"}
PRINT: Final = 16  # characters of a fingerprint that tell it from others

Told = Callable[[Whole, float, int], Content]
Count = Callable[[Whole], int]


@dataclass(frozen=True)
class Part:
    """`told` gives its lines for a time and a width, None where a widget of its own shows it; `count` how many there are of what it lists."""

    name: str
    told: Told | None
    count: Count | None = None


def _overview(whole: Whole, now: float, width: int) -> Content:
    return Content("\n").join(labelled(label, text, width) for label, text in _facts(whole, now) if text)


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


def _memory_of(whole: Whole, now: float, width: int) -> Content:
    """Predicted and measured, of the whole process and of each phase."""
    known = recorded.of(whole.document.environment)
    if known.predicted is None and known.measured is None:
        return Content.styled("Nothing was recorded of it.", MUTED)
    predicted, measured = known.predicted or Figures(""), known.measured or Figures("")
    lines = [labelled("predicted", f"when it was started, {predicted.source}", width)] if predicted.source else []
    lines += [labelled("measured", f"the process by {MEASURED_BY[measured.source]}", width)] if measured.source else []
    if step := known.step:
        most = f"at most {step.rows} x {step.tokens:,} tokens, {step.supervised:,} of them supervised"
        lines.append(labelled("at once", most, width))
    titles = ("MiB", "predicted", "measured", "off by")
    whole_run: list[tuple[Cell, ...]] = [
        (name, *_held(getattr(predicted, f"{name}_mib"), getattr(measured, f"{name}_mib")))
        for name in ("allocated", "reserved", "context", "process")
    ]
    nothing = (None, None)
    phases: list[tuple[Cell, ...]] = [
        (f"{phase} {name}", *_held(predicted.phases.get(phase, nothing)[at], measured.phases.get(phase, nothing)[at]))
        for phase in Phase
        if phase in measured.phases or phase in predicted.phases
        for at, name in enumerate(("allocated", "reserved"))
    ]
    return Content("\n").join([*lines, Content(), grid(titles, [*whole_run, *phases], width, right=(1, 2, 3))])


def _held(predicted: float | None, measured: float | None) -> tuple[str, str, str]:
    off = f"{(predicted - measured) / measured:+.1%}" if predicted is not None and measured else ""
    left, right = ("" if value is None else f"{value:,.0f}" for value in (predicted, measured))
    return left, right, off


def _metrics(whole: Whole, now: float, width: int) -> Content:
    rows = []
    for key, summary in sorted(
        whole.summary.items(), key=lambda item: (not item[0].startswith("validation/"), item[0])
    ):
        judged = key.endswith("/loss") or higher_is_better(key)
        best = (figures.value(summary.best), figures.count(summary.best_step)) if judged else ("", "")
        rows.append((key, figures.value(summary.last), figures.count(summary.last_step), *best))
    return grid(("metric", "last", "at", "best", "at"), rows, width, right=(1, 2, 3, 4))


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
        return pairs(whole.settings, width)
    return Content("\n").join(map(shown, text.splitlines()))


def _environment(whole: Whole, now: float, width: int) -> Content:
    told = {key: value for key, value in whole.document.environment.items() if key not in TOLD_ELSEWHERE}
    prints = pairs(whole.document.fingerprints, width)
    around = pairs(flat(told), width)
    return Content("\n").join([heading("fingerprints"), prints, Content(), heading("environment"), around])


def _jobs(whole: Whole, now: float, width: int) -> Content:
    lines: list[Content] = []
    for job, seen in zip(reversed(whole.jobs), reversed(whole.seen), strict=True):
        lines.append(
            Content.assemble((f"{job.kind}  ", "bold"), states.styled(seen, job.cause), f"  {_when(job, now)}")
        )
        where = f"process {job.pid} on {job.host}" if job.pid else job.host or ""
        counted = f"{job.doing} {job.done:,} of {job.total:,}" if job.total and job.kind != "train" else ""
        lines += [
            labelled(label, text, width)
            for label, text in (("", where), ("", counted), *_lines("", job.message))
            if text
        ]
        lines += [labelled("log", Content.styled(str(job.log), MUTED), width), Content()]
    for order in whole.orders:
        factor = f" {order.value:g}" if order.value is not None else ""
        lines.append(labelled("order", f"{order.verb}{factor} at step {order.step}  {order.answer}", width))
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
        lines.append(beside(Content.assemble((when, MUTED), (MARKS[event.level] + " ", style)), text, width))
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
    return grid(("step", "saved", "size", "val", "", ""), rows, width, right=(0, 2, 3))


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
    return grid(("suite", "finished", "n", "scores"), rows, width, right=(2,))


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
    return grid(("kind", "left", "size", "fingerprint", "path"), rows, width, right=(2,))


PARTS: Final = (
    Part("overview", _overview),
    Part("note", None),
    Part("lineage", None, lambda whole: len(whole.relatives)),
    Part("memory", _memory_of),
    Part("metrics", _metrics, lambda whole: len(whole.summary)),
    Part("profile", _profile),
    Part("versions", _environment),
    Part("jobs", _jobs, lambda whole: len(whole.jobs)),
    Part("events", _events, lambda whole: len(whole.events)),
    Part("checkpoints", _checkpoints, lambda whole: len(whole.checkpoints)),
    Part("evaluations", _evaluations, lambda whole: len(whole.evaluations)),
    Part("artifacts", _artifacts, lambda whole: len(whole.artifacts)),
)
