"""Runs that failed where this one may: on the same GPU for want of memory, or with the same base for numbers that were not finite.

A past failure is told only if the profile asks for as much or more in everything that decides: then the same is to be expected, and nobody is
warned of what has been changed already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from engine.fit.cards import Card
from engine.fit.history import Past, runs_on
from engine.ledger import Ledger
from engine.profile import Profile, flat

MOST: Final = 3  # warnings: more say no more
Cost = Callable[[object], float]


@dataclass(frozen=True)
class Failure:
    """A run that failed. `cause` is as the table of runs has it (`OOM at 12`, `NaN`), or says that it went on with less at once; `created` in
    seconds since the epoch; `differs` is what the profile has otherwise: dotted key, the run's value, the profile's."""

    run: str
    uid: str
    cause: str
    created: float
    differs: tuple[tuple[str, object, object], ...]


def _ranked(*cheapest_first: object) -> Cost:
    """How much a value costs, by its place; unknown ones most."""
    return lambda value: cheapest_first.index(value) if value in cheapest_first else len(cheapest_first)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


MEMORY: Final[Mapping[str, Cost]] = {
    "model.quantization": _ranked("nf4", "fp4", "int8", "none"),
    "model.dtype": _ranked("bfloat16", "float16", "float32"),
    "model.attention": _ranked("flash", "sdpa", "eager"),
    "method.name": _ranked("prompt_tuning", "p_tuning", "prefix", "ia3", "lora", "full"),
    "method.rank": _number,
    "method.dora": _number,
    "template.max_tokens": _number,
    "training.micro_batch": _number,
    "training.row_tokens": _number,
    "training.optimizer": _ranked("adafactor", "paged_adamw_8bit", "adamw_8bit", "adamw"),
    "training.checkpoint_activations": lambda value: 1.0 - _number(value),
}
"""What decides how much memory a step takes, with how much of it a value asks for; of some only the order means something."""

NUMBERS: Final[Mapping[str, Cost]] = {
    "model.dtype": _ranked("float32", "bfloat16", "float16"),
    "method.name": _ranked("prompt_tuning", "p_tuning", "prefix", "ia3", "lora", "full"),
    "training.learning_rate": _number,
}
"""What decides whether numbers stay finite, likewise."""

SAME: Final = ("model.base", "training.objective")
"""What has to be equal for one run to say anything of another."""


def failures(ledger: Ledger, profile: Profile, card: Card) -> tuple[Failure, ...]:
    """The newest failures that this profile would probably repeat on this card. Values that are still auto are taken to be as they were."""
    now = flat(profile)
    found = []
    for past in runs_on(ledger, card.name):
        deciding = _deciding(past)
        if deciding and _asks_no_less(now, past.settings, deciding):
            cause = past.cause if past.state == "failed" else "memory ran out, it went on with less at once"
            found.append(Failure(past.name, past.uid, cause, past.created, _differences(now, past.settings, deciding)))
    return tuple(found[:MOST])


def _deciding(past: Past) -> Mapping[str, Cost]:
    """What decides that a run fails as this one did; nothing for runs that did not, or for other reasons."""
    if past.smaller or (past.state == "failed" and past.cause.startswith("OOM")):
        return MEMORY
    return NUMBERS if past.state == "failed" and past.cause == "NaN" else {}


def _asks_no_less(now: Mapping[str, object], then: Mapping[str, object], deciding: Mapping[str, Cost]) -> bool:
    if any(now.get(key) != then.get(key) for key in SAME):
        return False
    known = (key for key in deciding if now.get(key) != "auto" and key in then)
    return all(deciding[key](now.get(key)) >= deciding[key](then[key]) for key in known)


def _differences(
    now: Mapping[str, object], then: Mapping[str, object], keys: Iterable[str]
) -> tuple[tuple[str, object, object], ...]:
    return tuple((key, then[key], now.get(key)) for key in keys if key in then and then[key] != now.get(key))
