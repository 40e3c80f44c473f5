"""What Monitor says around its charts: the first line, the facts, the machine, the times, what waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textual.content import Content

from engine.gpu import Gpu
from engine.ledger.states import LIVE, State
from screens.monitor.reading import BEFORE, Made, Snapshot
from screens.widgets import figures, states
from screens.widgets.line import shortened

LABEL = 10  # columns
SHORTEST_NAME = 12  # columns
MUTED = "$foreground-muted"
JOULES = 3.6e6  # of a kWh


def headline(snapshot: Snapshot, now: float, width: int) -> Content:
    """State, name, steps, epoch, speed, and between which times it ends, in `width` columns: a long name gives way."""
    run = snapshot.run
    parts = []
    if run.state is not State.RUNNING:
        parts.append(
            Content.styled(
                run.cause if run.state is State.FAILED and run.cause else run.state, states.STYLES[run.state]
            )
        )
    if run.step:
        parts.append(Content(f"{run.step}/{run.steps}" if run.steps else str(run.step)))
    if snapshot.job and run.state in LIVE and (not run.step or run.state in BEFORE):
        job = snapshot.job
        counted = f" {job.done}/{job.total}" if job.total and job.done < job.total else ""
        if job.doing != run.state:
            parts.append(Content(f"{job.doing or 'waiting for its process'}{counted}"))
    if "train/epoch" in snapshot.last:
        epochs = snapshot.settings.get("training.epochs")
        of = (
            f"/{epochs:g}"
            if isinstance(epochs, int | float) and not snapshot.settings.get("training.max_steps")
            else ""
        )
        parts.append(Content(f"epoch {snapshot.last['train/epoch']:.1f}{of}"))
    if run.state is State.RUNNING and "train/tokens_per_second" in snapshot.last:
        parts.append(Content(f"{snapshot.last['train/tokens_per_second']:,.0f} tok/s"))
        if "train/mfu" in snapshot.last:
            parts.append(Content(f"MFU {figures.percent(snapshot.last['train/mfu'])}"))
    if run.state in LIVE and (ends := _ends(snapshot, now)):
        parts.append(Content.assemble(("ends ", MUTED), ends))
    rest = Content("").join(Content("  ") + part for part in parts)
    name = shortened(run.name, max(SHORTEST_NAME, width - 2 - rest.cell_length))
    return Content.assemble((states.SYMBOLS[run.state], states.STYLES[run.state]), (f" {name}", "bold"), rest)


def _ends(snapshot: Snapshot, now: float) -> str:
    if snapshot.pace is not None:
        low, high = figures.clock(snapshot.pace.earliest, now), figures.clock(snapshot.pace.latest, now)
        return low if low == high else f"{low}-{high}"
    return (
        figures.clock(snapshot.run.ends, now)
        if snapshot.run.ends is not None and snapshot.run.state is State.RUNNING
        else ""
    )


def facts(snapshot: Snapshot) -> Content:
    """Single values, one a line."""
    return Content("\n").join(Content.assemble((label.ljust(LABEL), MUTED), text) for label, text in _facts(snapshot))


def _facts(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    last, run = snapshot.last, snapshot.run
    if snapshot.best is not None:
        yield "best", f"{figures.value(snapshot.best)} @{snapshot.best_step}"
    part = "validation" if "validation/reward_margin" in last else "train"
    if f"{part}/reward_margin" in last:
        right = figures.percent(last.get(f"{part}/accuracy"))
        yield "margin", f"{figures.value(last[f'{part}/reward_margin'])}, {right}"
    if "train/rate" in last:
        yield "rate", figures.scientific(last["train/rate"])
    patience = snapshot.settings.get("training.early_stopping.patience")
    if isinstance(patience, int) and snapshot.best is not None:
        yield "stop", f"{snapshot.since_best} of {patience}"
    if "train/tokens" in last:
        yield "tokens", figures.count(last["train/tokens"])
    if snapshot.pace is not None:
        yield "step", figures.seconds(snapshot.pace.step)
    if run.state in LIVE and run.step:
        saved = snapshot.checkpoints[-1].step if snapshot.checkpoints else 0
        unsaved = max(0, run.step - saved)  # a step is told a little later than its checkpoint
        yield "unsaved", f"{unsaved} step{'s' if unsaved != 1 else ''}"
    if "energy/joules" in last:
        yield "energy", f"{figures.value(last['energy/joules'] / JOULES)} kWh"
    if run.measured_mib is not None:
        yield "memory", f"{figures.gib(run.measured_mib)} GiB"
    if run.predicted_mib is not None:
        yield "predicted", f"{figures.gib(run.predicted_mib)} GiB"


def machine(snapshot: Snapshot, gpus: Sequence[Gpu], width: int) -> Content:
    """A line a GPU, then disk and memory, where the time goes, what is trained on which rows."""
    lines = [_gpu(gpu, max(len(other.name) for other in gpus)) for gpu in gpus]
    there, saved = snapshot.room, snapshot.checkpoints
    taken = figures.size(sum(checkpoint.bytes for checkpoint in saved))
    kept = f", {len(saved)} checkpoint{'s' if len(saved) != 1 else ''} {taken}" if saved else ""
    disk = Content.assemble(("disk   ", MUTED), f"{figures.size(there.disk_free)} free{kept}")
    disk += Content.assemble(("   ram ", MUTED), f"{there.ram_used / 2**30:.0f} of {there.ram_total / 2**30:.0f} GiB")
    lines.append(disk)
    if snapshot.times:
        split = "  ".join(f"{part} {figures.percent(share)}" for part, share in snapshot.times.items())
        lines.append(Content.assemble(("time   ", MUTED), split))
    if snapshot.made.rows:
        lines.append(_made(snapshot.made, width))
    return Content("\n").join(lines)


def _made(made: Made, width: int) -> Content:
    """`trains 33M of 4.02G parameters   rows packed to 512 tokens, no leak`, and the kinds of module where there is room."""
    counted = f"{figures.count(made.trained)} of {figures.count(made.parameters)} parameters"
    line = Content.assemble(("trains ", MUTED), counted, ("   rows ", MUTED), made.rows)
    kinds = Content.assemble(("   in ", MUTED), ", ".join(made.kinds))
    return line + kinds if line.cell_length + kinds.cell_length <= width else line.truncate(width, ellipsis=True)


def _gpu(gpu: Gpu, name_width: int) -> Content:
    """`0 RTX 4090  402 W  73 C  mem mine 9.2 others .4 free 14.0 GiB  busy 97 %`; what the driver does not answer is left out."""
    parts = [f"{gpu.index} {gpu.name:<{name_width}}"]
    parts += [f"{gpu.watts:3.0f} W"] if gpu.watts is not None else []
    parts += [f"{gpu.celsius:2d} C"] if gpu.celsius is not None else []
    memory = [
        f"{word} {figures.gib(mib):>4}"
        for word, mib in (("mine", gpu.mine_mib), ("others", gpu.others_mib), ("free", gpu.free_mib))
        if mib is not None
    ]
    parts += [f"mem {' '.join(memory)} GiB"] if memory else []
    parts += [f"busy {gpu.busy_percent:3d} %"] if gpu.busy_percent is not None else []
    return Content("  ".join(parts))


def trouble(snapshot: Snapshot) -> Content:
    """Why it failed, or what to do about a lost or stopped run; empty while all is well."""
    run = snapshot.run
    if run.state is State.FAILED and snapshot.job and snapshot.job.message:
        what, *rest = snapshot.job.message.splitlines()
        return Content.assemble((f"✗ {what}", "$text-error"), *(f"\n  {line}" for line in rest))
    if run.state is State.LOST and run.source:
        text = "? Its process is gone and left no word. Workbench did not start it: go on with it where you did."
        return Content.styled(text, "$text-warning")
    if run.state is State.LOST:
        saved = f"checkpoint {snapshot.checkpoints[-1].step}" if snapshot.checkpoints else "the beginning"
        return Content.styled(f"? Its process is gone. R resumes it from {saved}.", "$text-warning")
    return Content()


def waiting(snapshot: Snapshot) -> Content:
    """Orders that the job has not taken yet."""
    if not snapshot.waiting:
        return Content()
    words = ", ".join(
        f"{order.verb}{f' x {order.value:g}' if order.value is not None else ''}" for order in snapshot.waiting
    )
    return Content.styled(f"○ ordered, waiting for the next step: {words}", "$text-warning")
