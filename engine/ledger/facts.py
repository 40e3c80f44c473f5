"""What is known of a run by the name that people use for it: for filters, columns and sorting.

`state`, `lr`, `loss`; any setting by its dotted key (`method.rank`) or by its last part where that means one (`dropout`); any metric by
its key (`train/loss` is its last value; `train/loss.best`, `train/loss.smooth`).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from engine.filtering import Field, Kind
from engine.filtering import Value as Value
from engine.ledger.states import LIVE, State
from engine.ledger.table import Figures, Row, Settings

LOSS: Final = "validation/loss"
PARTS: Final[Mapping[str, Callable[[Figures], float | None]]] = {
    "last": lambda figures: math.nan if figures.last is None else figures.last,  # a gap: NaN or infinite
    "best": lambda figures: figures.best,
    "smooth": lambda figures: figures.smoothed,
}
"""What may follow a metric's key behind a dot; its last value is meant without."""


FIELDS: Final = (
    Field("name", "text", "what the run is called"),
    Field("state", "choice", "what became of it", tuple(State)),
    Field("cause", "text", "why it failed: OOM, gated, disk, ..."),
    Field("model", "text", "the base model, without its owner or folder"),
    Field("method", "text", "lora, qlora, dora, full, ..."),
    Field("rank", "number", "the adapter's rank"),
    Field("lr", "number", "the learning rate", aliases=("rate",)),
    Field("loss", "number", "last validation loss", aliases=("val",)),
    Field("best", "number", "best validation loss"),
    Field("step", "number", "optimizer steps done"),
    Field("steps", "number", "optimizer steps to do"),
    Field("age", "duration", "time since it was started"),
    Field("ends", "duration", "time until it is expected to end"),
    Field("gpu", "text", "what it was trained on"),
    Field("tag", "tags", "a tag that people gave it", aliases=("tags",)),
    Field("note", "text", "what people wrote about it"),
    Field("sweep", "text", "the sweep that it belongs to"),
    Field("baseline", "choice", "yes for a run that others are held against", ("yes", "no")),
    Field("archived", "choice", "yes for a run that was put out of sight", ("yes", "no")),
    Field("source", "text", "what it was imported from or watched at: tensorboard, ..."),
)
ALIASES: Final = {alias: field.name for field in FIELDS for alias in field.aliases}


def fact(row: Row, settings: Settings, name: str, *, now: float | None = None) -> Value:
    """What `name` is of a run; None where it has no such thing. A metric has to be among those that the row was read with (`metric`)."""
    name = ALIASES.get(name, name)
    if (known := _KNOWN.get(name)) is not None:
        return known(row, settings)
    if (timed := _TIMED.get(name)) is not None:
        return timed(row, time.time() if now is None else now)
    if (asked := metric(name)) is not None:
        key, part = asked
        figures = row.metrics.get(key)
        return None if figures is None else PARTS[part](figures)
    return _plain(settings.get(setting(name, settings)))


@cache
def metric(name: str) -> tuple[str, str] | None:
    """The metric that a name means, and which of `PARTS` of it; None where it means something else."""
    if name in ("loss", "best", *(alias for alias, known in ALIASES.items() if known == "loss")):
        return LOSS, "best" if name == "best" else "last"
    if "/" not in name:
        return None
    key, dot, part = name.rpartition(".")
    return (key, part) if dot and part in PARTS else (name, "last")


def setting(name: str, keys: Iterable[str]) -> str:
    """The dotted key that a name means: itself, or the one that ends in it; the name itself where that is none or several."""
    known = keys if isinstance(keys, Mapping) else frozenset(keys)
    if name in known:
        return name
    ending = f".{name}"
    found = [key for key in known if key.endswith(ending)]
    return found[0] if len(found) == 1 else name


def fields(settings: Iterable[Settings], metrics: Iterable[str]) -> tuple[Field, ...]:
    """All that can be asked of runs that have these settings and metrics: `FIELDS`, then settings by dotted key, then metrics."""
    taken = {field.name for field in FIELDS} | ALIASES.keys()
    kinds: dict[str, set[type]] = {}
    for each in {id(each): each for each in settings}.values():
        for key, value in each.items():
            kinds.setdefault(key, set()).add(type(value))
    last = Counter(key.rpartition(".")[2] for key in kinds)
    found = list(FIELDS)
    for key in sorted(kinds):
        short = key.rpartition(".")[2]
        alone = short != key and short not in taken and last[short] == 1
        found.append(Field(key, _kind(kinds[key]), "a setting of the profile", aliases=(short,) if alone else ()))
    for key in sorted(metrics):
        found.append(Field(key, "number", "last value of the metric"))
        found += [
            Field(f"{key}.best", "number", "its best value"),
            Field(f"{key}.smooth", "number", "its value, smoothed"),
        ]
    return tuple(found)


def method(settings: Settings) -> str:
    """How the method is called: `qlora` is lora on a 4-bit base."""
    name = str(settings.get("method.name", ""))
    if name == "lora" and settings.get("model.quantization", "none") != "none":
        return "qlora"
    return "dora" if name == "lora" and settings.get("method.dora") else name


def model(settings: Settings) -> str:
    """The base model's name without its owner or folder."""
    return _last_part(str(settings.get("model.base", "")))


@cache
def _last_part(path: str) -> str:
    return Path(path).name or path


def _kind(types: set[type]) -> Kind:
    there = types - {type(None)}
    return "number" if there and there <= {int, float} else "any"


def _plain(value: object) -> Value:
    if isinstance(value, list | tuple):
        return tuple(str(each) for each in value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _rank(settings: Settings) -> Value:
    return _plain(settings.get("method.rank")) if settings.get("method.name", "lora") == "lora" else None


_KNOWN: Final[Mapping[str, Callable[[Row, Settings], Value]]] = {
    "name": lambda row, settings: row.name,
    "state": lambda row, settings: row.state.value,
    "cause": lambda row, settings: row.cause,
    "model": lambda row, settings: model(settings),
    "method": lambda row, settings: method(settings),
    "rank": lambda row, settings: _rank(settings),
    "lr": lambda row, settings: _plain(settings.get("training.learning_rate")),
    "step": lambda row, settings: row.step,
    "steps": lambda row, settings: row.steps,
    "gpu": lambda row, settings: row.gpu,
    "tag": lambda row, settings: row.tags,
    "note": lambda row, settings: row.note,
    "sweep": lambda row, settings: row.sweep,
    "baseline": lambda row, settings: _yes(row.baseline),
    "archived": lambda row, settings: _yes(row.archived),
    "source": lambda row, settings: row.source,
}
_TIMED: Final[Mapping[str, Callable[[Row, float], Value]]] = {
    "age": lambda row, now: now - row.created,
    "ends": lambda row, now: None if row.ends is None or row.state not in LIVE else row.ends - now,
}
