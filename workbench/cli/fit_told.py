"""What `workbench fit` found, as tables, as JSON, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from textwrap import wrap

from engine.fit.estimate import Estimate, GpuFit
from engine.fit.failures import Failure
from engine.fit.history import PastErrors
from engine.fit.ladder import Rung
from screens.widgets import figures
from workbench.cli.output import Cell, print_table

PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "temporaries", "context")
ROOM = 54  # columns for what a rung changes, beside its figures
Past = Mapping[str, PastErrors | None]


def as_json(found: Estimate, past: Past, notes: list[str], price: float | None) -> dict[str, object]:
    """The keys that scripts rely on."""
    return {
        "source": found.source,
        "steps": found.steps,
        "seconds": found.seconds,
        "gpus": [_gpu_json(gpu, past[gpu.name], price) for gpu in found.gpus],
        "cpu": _gpu_json(found.cpu, past[found.cpu.name], price) if found.cpu else None,
        "notes": notes,
    }


def _gpu_json(fit: GpuFit, past: PastErrors | None, price: float | None) -> dict[str, object]:
    told = asdict(fit)
    told["uuid"] = fit.uuid or None
    del told["question"]
    told["phases"] = {
        phase: {"allocated_mib": most, "reserved_mib": kept} for phase, (most, kept) in fit.phases.items()
    }
    told["predicted"] = {
        "allocated_mib": told.pop("predicted_allocated_mib"),
        "reserved_mib": told.pop("predicted_reserved_mib"),
        "process_mib": told.pop("predicted_process_mib"),
        "parts": told.pop("parts"),
    }
    return {**told, "cost": _cost(fit, price), "past_errors": past}


def _cost(fit: GpuFit, price: float | None) -> tuple[float, float] | None:
    """From, to: of all GPUs together."""
    if price is None or fit.seconds is None or fit.uuid == "cpu":
        return None
    low, high = fit.seconds
    return low / 3600 * fit.ranks * price, high / 3600 * fit.ranks * price


def show(found: Estimate, past: Past, price: float | None) -> None:
    """Print memory, time, what memory is made of, phases and ladder of each GPU."""
    _show_memory(found, past)
    _show_time(found, price)
    print()
    names = [fit.name for fit in found.fits]
    parts = [(part, *(figures.gib(getattr(fit.parts, part)) for fit in found.fits)) for part in PARTS]
    print_table(("GiB", *names), parts, right=names)
    _show_phases(found)
    for fit in found.fits:
        if fit.ladder:
            print()
            title = f"{fit.name}: {'faster' if fit.fits else 'to fit'}"
            rows = [row for rung in fit.ladder for row in _rung(rung)]
            print_table(("saves GiB", "time", "fits", title), rows, right=("saves GiB", "time"))


def _show_memory(found: Estimate, past: Past) -> None:
    """What is needed and what there is; then what auto chooses, and how much more would fit."""
    rows: list[tuple[Cell, ...]] = [
        (
            fit.name if fit.ranks == 1 else f"{fit.ranks} x {fit.name}",
            "yes" if fit.fits else "no",
            figures.gib(fit.predicted_process_mib),
            _off(past[fit.name]),
            figures.gib(fit.free_mib),
            _signed(fit.headroom_mib),
        )
        for fit in found.fits
    ]
    titles = ("gpu", "fits", "needs GiB", "off", "of free", "to spare")
    print_table(titles, rows, right=("needs GiB", "off", "of free", "to spare"))
    print()
    chosen: list[tuple[Cell, ...]] = [
        (
            fit.name,
            fit.micro_batch,
            fit.micro_batch_max or None,
            "yes" if fit.checkpoint_activations else "no",
            f"{fit.longest_tokens:,} tokens" if fit.longest_tokens else None,
        )
        for fit in found.fits
    ]
    print_table(
        ("gpu", "micro-batch", "at most", "recompute", "longest row"),
        chosen,
        right=("micro-batch", "at most", "longest row"),
    )


def _show_time(found: Estimate, price: float | None) -> None:
    timed = [fit for fit in found.fits if fit.seconds and fit.step_seconds and fit.tokens_per_second]
    if not timed:
        return
    print()
    titles = ["gpu", "a step", "tokens/s", "time", "kWh", *(["cost"] if price is not None else [])]
    rows = []
    for fit in timed:
        cost = _cost(fit, price)
        row = [
            fit.name,
            _seconds(fit.step_seconds),
            _from_to(fit.tokens_per_second),
            span(fit.seconds),
            _from_to(fit.kwh),
        ]
        rows.append((*row, *([_from_to(cost)] if price is not None else [])))
    print_table(titles, rows, right=titles[1:])


def _show_phases(found: Estimate) -> None:
    """The most that is reserved in each phase, where a simulation tells."""
    told = [fit for fit in found.fits if fit.phases]
    if not told:
        return
    phases = list(told[0].phases)
    rows = [(fit.name, *(figures.gib(fit.phases[phase][1]) for phase in phases)) for fit in told]
    print()
    print_table(("reserved, GiB", *phases), rows, right=phases)


def _rung(rung: Rung) -> list[tuple[Cell, ...]]:
    """What it brings, then what to change, and under that what it costs."""
    changes = ", ".join(f"{key} = {str(value).lower()}" for key, value in rung.change.items())
    first, *further = wrap(changes, ROOM)
    brings = (_signed(rung.saves_mib), f"{rung.time - 1:+.0%}" if rung.time else None, "yes" if rung.fits else "no")
    return [(*brings, first), *(("", "", "", text) for text in (*further, rung.price))]


def _signed(mib: float) -> str:
    told = figures.gib(abs(mib))
    return f"-{told}" if mib < 0 and told != "0" else told


def _off(past: PastErrors | None) -> str | None:
    """How wrong such predictions were: their mean, of how many runs."""
    return f"±{past.mean_pct:.1f} % of {past.runs}" if past else None


def span(seconds: tuple[float, float] | None) -> str | None:
    """From and to: `12m - 40m`."""
    return f"{figures.duration(seconds[0])} - {figures.duration(seconds[1])}" if seconds else None


def _seconds(of_a_step: tuple[float, float] | None) -> str | None:
    return f"{figures.seconds(of_a_step[0])} - {figures.seconds(of_a_step[1])}" if of_a_step else None


def _from_to(values: tuple[float, float] | None) -> str | None:
    return f"{figures.value(values[0])} - {figures.value(values[1])}" if values else None


def failure(failed: Failure, gpu: str) -> str:
    """A run like this one that failed, as a warning."""
    differs = ", ".join(f"{key} {_word(now)} (there {_word(then)})" for key, then, now in failed.differs)
    return f"On {gpu} a run like this failed: {failed.run}, {failed.cause}.{f' It differs in {differs}.' if differs else ''}"


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def verdict(found: Estimate) -> str:
    """Whether and where it fits, in a sentence."""
    fitting = [fit for fit in found.fits if fit.fits]
    about = f"{found.steps:,} steps; figures are {' or '.join(dict.fromkeys(fit.source for fit in found.fits))}."
    if not fitting:
        return f"Does not fit {', '.join(map(_where, found.fits))}. {about}"
    most = max(fitting, key=lambda fit: fit.headroom_mib)
    if most.uuid == "cpu":
        return f"Runs on the CPU with at least {figures.gib(most.predicted_process_mib)} GiB. {about}"
    return f"Fits {most.name} with {figures.gib(most.headroom_mib)} GiB to spare. {about}"


def _where(fit: GpuFit) -> str:
    """The GPU, and what others hold of it where that is why it does not fit."""
    taken = fit.total_mib - fit.free_mib
    if fit.uuid not in ("", "cpu") and fit.predicted_process_mib <= fit.total_mib and taken > 0.05 * fit.total_mib:
        return f"{fit.name} ({figures.gib(taken)} of {figures.gib(fit.total_mib)} GiB are taken)"
    return fit.name
