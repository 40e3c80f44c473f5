"""What to change when a run does not fit, cheapest first, and what to change when it fits with room: each with its gain and its price."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from engine.errors import Problem
from engine.placing import why_not_cut
from engine.profile import Profile, Training, changed, flat

if TYPE_CHECKING:
    from engine.fit.estimate import GpuFit

Judge = Callable[[Profile], "GpuFit"]
Change = Mapping[str, object]
Step = tuple[Change, str]  # and its price
WORTH: Final = 0.98  # of the time: less gain is not worth a change
SEEN_MIB: Final = 0.1  # a saving below is none
SHORTEST: Final = 256  # tokens that rows are cut to by a rung at least
SMALLEST: Final = 8  # of lora's rank
MOST_GPUS: Final = 8  # that a machine holds


@dataclass(frozen=True)
class Rung:
    """A change (dotted keys to values) on top of the rungs before it.

    `saves_mib` of process memory, below 0 for what it takes; `time` is the factor on the run's time, None where speed is not known; `price`
    says in words what it costs besides; `fits` whether the run fits with it.
    """

    change: Change
    saves_mib: float
    time: float | None
    price: str
    fits: bool


def ladder(profile: Profile, now: GpuFit, judge: Judge, gpus: int) -> tuple[Rung, ...]:
    """From how the profile fits `now`: downwards until it does, or the ways up that still fit and make it faster.

    `gpus` are those that the run could be spread over. Those that are not here are named only to make it fit.
    """
    return _down(profile, now, judge, gpus) if not now.fits else _up(profile, now, judge, gpus if now.uuid else 1)


def _down(profile: Profile, now: GpuFit, judge: Judge, gpus: int) -> tuple[Rung, ...]:
    """The cheapest changes one on top of the other until it fits, without those that the later ones make needless."""
    steps: list[Step] = []
    candidate, then = profile, now
    while not then.fits:
        for step in _cheaper(candidate, then, gpus):
            after = _judged(candidate, [step], judge)
            if after and then.predicted_process_mib - after[1].predicted_process_mib >= SEEN_MIB:
                steps.append(step)
                candidate, then = after
                break
        else:
            break
    if then.fits:
        steps = _needed(profile, steps, judge)
    return tuple(_rungs(profile, now, steps, judge))


def _needed(profile: Profile, steps: list[Step], judge: Judge) -> list[Step]:
    """Those without which it does not fit, asked of what costs most first; the last is needed. Anew after each that is not: what did not go
    together with it may go now."""
    for step in steps[-2::-1]:
        fewer = [other for other in steps if other is not step]
        without = _judged(profile, fewer, judge)
        if without and without[1].fits:
            return _needed(profile, fewer, judge)
    return steps


def _judged(profile: Profile, steps: Sequence[Step], judge: Judge) -> tuple[Profile, GpuFit] | None:
    """The profile with these changes and how it fits; None where they do not go together."""
    try:
        for change, _ in steps:
            profile = changed(profile, change)
        return profile, judge(profile)
    except (ValidationError, Problem):
        return None


def _rungs(profile: Profile, now: GpuFit, steps: Sequence[Step], judge: Judge) -> Iterator[Rung]:
    for step, price in steps:
        after = _judged(profile, [(step, price)], judge)
        if after is None:
            return
        there = flat(profile)
        change = {key: value for key, value in step.items() if there.get(key) != value}
        profile, then = after
        saves = now.predicted_process_mib - then.predicted_process_mib
        yield Rung(change, saves, _time(now, then), price, then.fits)
        now = then


def _cheaper(profile: Profile, now: GpuFit, gpus: int) -> Iterator[Step]:
    """Changes that save memory, in the order of what they cost: first what leaves the result as it is."""
    training, model, method = profile.training, profile.model, profile.method
    if now.micro_batch > 1 and training.micro_batch != "auto":
        yield {"training.micro_batch": "auto"}, "the same result, a little slower"
    if not now.checkpoint_activations and method.bears_recomputation:
        yield {"training.checkpoint_activations": True}, "the same result, more computation"
    if model.attention == "eager":
        yield {"model.attention": "sdpa"}, "the same result, and faster"
    if model.dtype == "float32" and now.uuid != "cpu":
        yield {"model.dtype": _short_type(now)}, "computes in 16 bits, as is usual"
    if training.optimizer == "adamw":
        yield {"training.optimizer": "adamw_8bit"}, "optimizer state in 8 bits: hardly any loss"
    if method.name == "full":
        yield {"method.name": "lora", "training.learning_rate": 2e-4}, "a small adapter in place of all weights"
    if model.quantization in ("none", "int8") and method.name != "full":
        yield {"model.quantization": "nf4"}, "base in 4 bits: a little quality, slower"
    elif model.quantization != "none" and not model.double_quantization:
        yield {"model.double_quantization": True}, "hardly any loss"
    tokens = now.question.step.tokens // 2
    if tokens >= SHORTEST:
        yield {"template.max_tokens": tokens} | _rows(training), "longer examples are cut"
    yield from _more_gpus(profile, now, gpus, "shard")
    if method.name == "lora" and method.rank > SMALLEST:
        alpha = method.alpha / method.rank * SMALLEST
        alpha = float(round(alpha)) if alpha >= SMALLEST else float(f"{alpha:.2g}")
        yield {"method.rank": SMALLEST, "method.alpha": alpha}, "less capacity to learn"


def _rows(training: Training) -> dict[str, object]:
    """Packed rows no longer than an example."""
    return {} if training.row_tokens == "auto" or training.packing is False else {"training.row_tokens": "auto"}


def _more_gpus(profile: Profile, now: GpuFit, gpus: int, sharding: str) -> Iterator[Step]:
    """Twice as many GPUs as now, each with the whole model or a part of it."""
    ranks = 2 * now.ranks
    if now.uuid == "cpu" or ranks > gpus or ranks > profile.training.effective_batch:
        return
    change: dict[str, object] = {"hardware.gpus": "auto", "hardware.ranks": ranks, "hardware.sharding": sharding}
    price = f"{ranks} such GPUs"
    if sharding == "shard":
        if profile.training.optimizer != "adamw":  # the only one that knows of weights in parts
            change["training.optimizer"] = "adamw"
        if why_not_cut(changed(profile, change)):
            return
        price += ", each with a part of the model"
    yield change, price


def _short_type(now: GpuFit) -> str:
    capability = now.question.machine.capability
    return "bfloat16" if capability is None or capability >= (8, 0) else "float16"


def _up(profile: Profile, now: GpuFit, judge: Judge, gpus: int) -> tuple[Rung, ...]:
    rungs: list[Rung] = []
    for change, price in _faster(profile, now, gpus):
        after = _judged(profile, [(change, price)], judge)
        factor = _time(now, after[1]) if after else None
        if after and after[1].fits and factor is not None and factor < WORTH:
            saves = now.predicted_process_mib - after[1].predicted_process_mib
            rungs.append(Rung(change, saves, factor, price, True))
    return tuple(rungs)


def _faster(profile: Profile, now: GpuFit, gpus: int) -> Iterator[Step]:
    """Changes that may save time, each by itself."""
    training, model, method = profile.training, profile.model, profile.method
    if training.checkpoint_activations is True:
        yield {"training.checkpoint_activations": False}, "the same result"
    if now.micro_batch_max > now.micro_batch:
        yield {"training.micro_batch": now.micro_batch_max}, "the same result"
    if training.packing is False and not method.learns_a_prompt:
        yield {"training.packing": True}, "the same result, without padding"
    if model.quantization != "none":
        yield {"model.quantization": "none"}, "the base as it is: no loss by quantisation"
    if model.dtype == "float32" and now.uuid != "cpu":
        yield {"model.dtype": _short_type(now)}, "computes in 16 bits, as is usual"
    yield from _more_gpus(profile, now, gpus, "replicate")


def _time(now: GpuFit, then: GpuFit) -> float | None:
    if now.seconds is None or then.seconds is None or not any(now.seconds):
        return None
    return sum(then.seconds) / sum(now.seconds)
