"""What to change when a run does not fit, cheapest first, and what to change when it fits with room: each with its gain and its price."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from engine.profile import Profile, changed

if TYPE_CHECKING:
    from engine.fit.estimate import GpuFit

Judge = Callable[[Profile], "GpuFit"]
WORTH: Final = 0.98  # of the time: less gain is not worth a change


@dataclass(frozen=True)
class Rung:
    """A change (dotted keys to values) on top of the rungs before it.

    `saves_mib` of process memory, below 0 for what it takes; `time` is the factor on the run's time, None where speed is not known; `price`
    says in words what it costs besides; `fits` whether the run fits with it.
    """

    change: Mapping[str, object]
    saves_mib: float
    time: float | None
    price: str
    fits: bool


def ladder(profile: Profile, now: GpuFit, judge: Judge, several: int) -> tuple[Rung, ...]:
    """From how the profile fits `now`: downwards until it does, or the steps up that still fit and make it faster."""
    return _down(profile, now, judge) if not now.fits else _up(profile, now, judge)


def _down(profile: Profile, now: GpuFit, judge: Judge) -> tuple[Rung, ...]:
    rungs: list[Rung] = []
    while not now.fits:
        for change, price in _cheaper(profile, now):
            candidate = changed(profile, change)
            then = judge(candidate)
            saves = now.predicted_process_mib - then.predicted_process_mib
            if saves >= 1:
                rungs.append(Rung(change, saves, _time(now, then), price, then.fits))
                profile, now = candidate, then
                break
        else:
            break
    return tuple(rungs)


def _cheaper(profile: Profile, now: GpuFit) -> list[tuple[dict[str, object], str]]:
    """Changes that save memory, in the order of what they cost the result."""
    training, model, method = profile.training, profile.model, profile.method
    found: list[tuple[dict[str, object], str]] = []
    if now.micro_batch > 1:
        found.append(({"training.micro_batch": 1}, "the same result, a little slower"))
    if not now.checkpoint_activations and method.bears_recomputation:
        found.append(({"training.checkpoint_activations": True}, "the same result, about a third more computation"))
    if training.optimizer == "adamw":
        found.append(({"training.optimizer": "adamw_8bit"}, "optimizer state in 8 bits: hardly any loss"))
    if method.name == "full":
        found.append(
            ({"method.name": "lora", "training.learning_rate": 2e-4}, "a small adapter in place of all weights")
        )
    if model.quantization == "none":
        found.append(({"method.name": "lora", "model.quantization": "nf4"}, "base in 4 bits: a little quality, slower"))
    elif not model.double_quantization:
        found.append(({"model.double_quantization": True}, "hardly any loss"))
    if method.name == "lora" and method.rank > 8:
        found.append(({"method.rank": 8, "method.alpha": 2 * 8.0}, "less capacity to learn"))
    tokens = profile.template.max_tokens
    if isinstance(tokens, int) and tokens >= 512:
        found.append(({"template.max_tokens": tokens // 2}, "long examples are cut"))
    return found


def _up(profile: Profile, now: GpuFit, judge: Judge) -> tuple[Rung, ...]:
    candidates: list[tuple[dict[str, object], str]] = []
    if now.checkpoint_activations:
        candidates.append(({"training.checkpoint_activations": False}, "the same result"))
    if profile.model.quantization != "none":
        candidates.append(({"model.quantization": "none"}, "the base as it is: no loss by quantisation"))
    if now.micro_batch_max > now.micro_batch:
        candidates.append(({"training.micro_batch": now.micro_batch_max}, "the same result"))
    rungs: list[Rung] = []
    for change, price in candidates:
        then = judge(changed(profile, change))
        factor = _time(now, then)
        if then.fits and factor is not None and factor < WORTH:
            rungs.append(Rung(change, now.predicted_process_mib - then.predicted_process_mib, factor, price, True))
    return tuple(rungs)


def _time(now: GpuFit, then: GpuFit) -> float | None:
    if now.seconds is None or then.seconds is None:
        return None
    return sum(then.seconds) / sum(now.seconds)
