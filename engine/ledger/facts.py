"""What is known of a run by the name that people use for it: for filters, columns and sorting.

`state`, `lr`, `loss`; any setting by its dotted key (`method.rank`) or by its last part where that means one (`dropout`); any metric by
its key (`train/loss` is its last value; `train/loss.best`, `train/loss.smooth`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from engine.ledger.runs import Summary
from engine.ledger.states import LIVE, State
from engine.ledger.table import Row, Settings

Kind = Literal["text", "choice", "number", "duration", "tags"]
Value = str | float | bool | tuple[str, ...] | None

LOSS: Final = "validation/loss"
PARTS: Final[Mapping[str, Callable[[Summary], float | None]]] = {
    "last": lambda summary: summary.last,
    "best": lambda summary: summary.best,
    "smooth": lambda summary: summary.smoothed,
}
"""What may follow a metric's key behind a dot; its last value is meant without."""


@dataclass(frozen=True)
class Field:
    """A name with a meaning: `kind` says how its values compare, durations are in seconds. `aliases` mean the same."""

    name: str
    kind: Kind
    help: str
    aliases: tuple[str, ...] = ()


FIELDS: Final = (
    Field("name", "text", "what the run is called"),
    Field("state", "choice", "queued, running, finished, failed, ..."),
    Field("cause", "text", "why it failed: OOM, gated, disk, ..."),
    Field("model", "text", "the base model, without its owner or folder"),
    Field("method", "choice", "lora, qlora, dora, full, ..."),
    Field("rank", "number", "the adapter's rank"),
    Field("lr", "number", "the learning rate", ("rate",)),
    Field("loss", "number", "last validation loss", ("val",)),
    Field("best", "number", "best validation loss"),
    Field("step", "number", "optimizer steps done"),
    Field("steps", "number", "optimizer steps to do"),
    Field("age", "duration", "time since it was started"),
    Field("ends", "duration", "time until it is expected to end"),
    Field("gpu", "text", "what it was trained on"),
    Field("tag", "tags", "a tag that people gave it", ("tags",)),
    Field("note", "text", "what people wrote about it"),
    Field("sweep", "text", "the sweep that it belongs to"),
    Field("baseline", "choice", "yes for a run that others are held against"),
    Field("archived", "choice", "yes for a run that was put out of sight"),
    Field("source", "choice", "what it was imported from or watched at: tensorboard, ..."),
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
        summary = row.metrics.get(key)
        return None if summary is None else PARTS[part](summary)
    return _plain(settings.get(setting(name, settings)))


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
    values: dict[str, object] = {}
    for each in {id(each): each for each in settings}.values():
        for key, value in each.items():
            if values.get(key) is None:
                values[key] = value
    last = [key.rpartition(".")[2] for key in values]
    found = list(FIELDS)
    for key in sorted(values):
        short = key.rpartition(".")[2]
        alone = short != key and short not in taken and last.count(short) == 1
        found.append(Field(key, _kind(values[key]), "a setting of the profile", (short,) if alone else ()))
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
    base = str(settings.get("model.base", ""))
    return Path(base).name or base


def state_words(state: State, cause: str) -> str:
    """A state with its cause where it failed: `failed OOM at 12`, `failed gated`, `failed disk`."""
    return f"{state} {cause}" if state is State.FAILED and cause else str(state)


def _kind(value: object) -> Kind:
    if isinstance(value, bool):
        return "choice"
    if isinstance(value, int | float):
        return "number"
    return "tags" if isinstance(value, list) else "text"


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
