"""What this ledger's runs taught of a GPU: what CUDA holds of it, how wrong predictions of memory were, how fast it was.

GPUs are the same here when they are of one kind in profiles/gpus, or when `engine.gpu.short_names` calls them the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Final, NamedTuple

from engine.fit import recorded
from engine.fit.cards import Card, spec_of
from engine.fit.predicting import Source
from engine.fit.recorded import Recorded
from engine.gpu import short_names
from engine.ledger import Ledger, contexts, summaries
from engine.ledger.summaries import Summary
from engine.profile import Profile

LOOKED_AT: Final = 200  # newest runs on a GPU: older ones ran with older drivers and libraries
COUNTED: Final = 30  # of these, that have what is asked for
CPU: Final = "cpu"
MARGIN: Final = 0.1  # by which the next run may be slower or faster than those before
PASSES: Final = {"full": (3, 4)}  # in which weights are read: without and with recomputation of activations
FROZEN_PASSES: Final = (2, 3)
NOTHING: Final = Summary(None, 0, None, None)


@dataclass(frozen=True)
class PastErrors:
    """How far predictions of the process's memory were from what was measured, in percent of that, over the newest `runs`.

    `mean_pct` is the mean of their sizes; `worst_pct` the one of the largest size with its sign: below 0, less was predicted than was needed.
    """

    runs: int
    mean_pct: float
    worst_pct: float


@dataclass(frozen=True)
class PastRate:
    """How fast a run was: its settings by dotted key and tokens a second, smoothed over its last steps. Where they are known, the share `mfu` of the
    published matrix rate that the model's own arithmetic came to, and the mean power in W."""

    run: str
    settings: Mapping[str, object]
    tokens_per_second: float
    mfu: float | None
    watts: float | None


class Past(NamedTuple):
    """A run on the GPU; `smaller` says that memory ran out and it went on with less at once than its settings say."""

    id: int
    uid: str
    name: str
    state: str
    cause: str
    created: float
    jobs: int
    settings: Mapping[str, object]
    memory: Recorded
    work: Mapping[str, object]
    smaller: bool


def context_mib(ledger: Ledger, card: Card) -> float | None:
    """What CUDA holds of this card for a process, besides torch's own, in MiB: as measured on it, else on one of the same kind; None where
    nobody has. See `engine.fit.context`, which measures it."""
    known = contexts.listed(ledger)
    own = [each for each in known if each.uuid == card.uuid]
    alike = [each for each in known if each.name == card.name or (card.spec and spec_of(each.name) == card.spec)]
    return next((each.mib for each in (*own, *alike)), None)


def errors(ledger: Ledger, gpu: str, source: Source = "simulated") -> PastErrors | None:
    """How wrong predictions of this `source` were on GPUs of this name; None where no run tells.

    Runs that had to go on with less at once are left out: they are not what was predicted. So are runs on a CPU, whose prediction is a lower
    bound.
    """
    found = []
    for past in runs_on(ledger, gpu):
        predicted, measured = past.memory.predicted, past.memory.measured
        if predicted and measured and predicted.source == source and not past.smaller:
            expected, taken = predicted.process_mib, measured.process_mib
            if expected and taken:
                found.append(100 * (expected - taken) / taken)
    if not found or gpu.lower() == CPU:
        return None
    newest = found[:COUNTED]
    return PastErrors(len(newest), fmean(map(abs, newest)), max(newest, key=abs))


def rates(ledger: Ledger, gpu: str) -> tuple[PastRate, ...]:
    """How fast runs on GPUs of this name were, the newest first."""
    there = list(runs_on(ledger, gpu))[:COUNTED]
    names = ("train/tokens_per_second", "train/mfu", "energy/joules")
    told = summaries.of_all(ledger, names, chosen=[past.id for past in there])
    found = []
    for past in there:
        speed, mfu, joules = (told.get(past.id, {}).get(name, NOTHING) for name in names)
        if speed.smoothed:
            # Joules are counted from the start of a process: those of a resumed run are not all.
            tokens = past.work.get("tokens") if past.jobs == 1 else None
            seconds = tokens / speed.smoothed if isinstance(tokens, int) else None
            watts = joules.last / seconds if joules.last and seconds else None
            found.append(PastRate(past.name, past.settings, speed.smoothed, mfu.smoothed, watts))
    return tuple(found)


def taught(ledger: Ledger, card: Card, profile: Profile) -> Card:
    """The card with what was learned of it: CUDA's context, and from runs like this one - of the same base, method and types - the share of its
    matrix rate that they reached and the power that they took."""
    wanted = {
        "model.base": profile.model.base,
        "model.quantization": profile.model.quantization,
        "model.dtype": profile.model.dtype,
        "method.name": profile.method.name,
    }
    alike = [
        rate
        for rate in rates(ledger, card.name)
        if all(rate.settings.get(key) == value for key, value in wanted.items())
    ]
    shares = [_share(rate) for rate in alike if rate.mfu]
    return replace(
        card,
        context_mib=context_mib(ledger, card),
        efficiency=_around(shares, 1.0),
        watts=_around([rate.watts for rate in alike if rate.watts], card.spec.watts if card.spec else math.inf),
    )


def _share(rate: PastRate) -> float:
    """Of the matrix rate: what is recomputed counts, unlike in `train/mfu`."""
    plain, recomputed = PASSES.get(str(rate.settings["method.name"]), FROZEN_PASSES)
    again = rate.settings.get("training.checkpoint_activations") is True
    return (rate.mfu or 0.0) * (recomputed / plain if again else 1.0)


def _around(values: Sequence[float], most: float) -> tuple[float, float] | None:
    """From a little below the lowest to a little above the highest, within what can be."""
    return (min(most, (1 - MARGIN) * min(values)), min(most, (1 + MARGIN) * max(values))) if values else None


def _called(name: str) -> set[str]:
    """What GPUs of this kind are called in the table of runs: `RTX 4090` for `GeForce RTX 4090`; `cpu` for a CPU."""
    if name.lower() == CPU:
        return {CPU}
    spec = spec_of(name)
    return {short_names((each,)) for each in (name, *((spec.name, *spec.driver_names) if spec else ()))}


def runs_on(ledger: Ledger, gpu: str) -> Iterator[Past]:
    """The newest runs on one GPU of this kind that the engine trained, newest first."""
    query = """
        SELECT r.id, r.uid, r.name, r.state, r.cause, r.created,
            (SELECT count(*) FROM job j WHERE j.run = r.id AND j.kind = 'train'), d.settings,
            CASE WHEN json_valid(d.environment) THEN json_extract(d.environment, '$.memory') END,
            CASE WHEN json_valid(d.environment) THEN json_extract(d.environment, '$.work') END,
            EXISTS (SELECT 1 FROM event e WHERE e.run = r.id AND e.kind = 'memory')
        FROM run r JOIN run_document d ON d.run = r.id
        WHERE r.gpu IN (SELECT value FROM json_each(?)) AND r.source = '' AND r.deleted IS NULL
        ORDER BY r.id DESC LIMIT ?
    """
    for row in ledger.rows(query, (json.dumps(sorted(_called(gpu))), LOOKED_AT)):
        past = Past(*row)
        yield past._replace(
            settings=json.loads(row[7]),
            memory=recorded.of({"memory": json.loads(row[8] or "{}")}),
            work=json.loads(row[9] or "{}"),
            smaller=bool(row[10]),
        )
