"""What the model, as the run began with it, says of every response: the reference of direct preference optimisation.

It is computed once, before the first step and before a checkpoint is restored, so never from weights that the run has trained. A fresh adapter is
switched off, one that was gone on from stays on, and of a whole model all weights still are what they began as. The numbers are kept in the run's
folder; a run that was killed meanwhile goes on behind the last that were written.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Final

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn

from engine.atomic import write_bytes
from engine.data.prepare import Tokens
from engine.ledger import jobs, orders, runs
from engine.stopping import stopping
from engine.train import chain, preference, validate
from engine.train.batches import MicroBatch, example_lengths
from engine.train.objective import Dpo
from engine.train.parts import Parts
from engine.train.ranks import Piece

KEPT_EVERY: Final = 60.0  # seconds between writing what there is
TOLD_EVERY: Final = 0.5  # seconds between looking at orders and saying how far it is
AT_ONCE: Final = 1024  # pairs that are laid out together
DOING: Final = "scoring the pairs with the model as it begins"


@dataclass(frozen=True)
class Reference:
    """Summed log-probabilities in nats of each row's supervised tokens, [rows] float32; not a number where not computed yet."""

    train: NDArray[np.float32]
    validation: NDArray[np.float32]

    def filled(self, others: Sequence[Reference]) -> None:
        """Take over what other ranks have computed."""
        for other in others:
            np.fmax(self.train, other.train, out=self.train)
            np.fmax(self.validation, other.validation, out=self.validation)


def stands(parts: Parts) -> bool:
    """Whether the objective has, or needs no, reference: nothing has to be asked of the model as the run began with it."""
    return not isinstance(parts.objective, Dpo) or _read(parts).whole


def give(parts: Parts) -> Parts:
    """The parts with the reference in their objectives; computed where it does not stand in the run's folder yet.

    Where it does not, the model has to be as the run began with it.

    Raises:
        KeyboardInterrupt: it was stopped, by order or signal; resuming goes on from what was computed.
        Problem: the disk is full.
    """
    objective = parts.objective
    if not isinstance(objective, Dpo):
        return parts
    kept = _read(parts)
    if not kept.whole:
        _compute(parts, kept)
    found = kept.reference
    return replace(
        parts,
        objective=replace(objective, reference=found.train),
        validation_objective=replace(objective, reference=found.validation),
    )


@dataclass(frozen=True)
class _Kept:
    """What stands in the run's folder: a whole reference, or the first `passes` forward passes of it."""

    reference: Reference
    whole: bool
    passes: int


def _read(parts: Parts) -> _Kept:
    """What there is of these data and this beginning; nothing computed where there is nothing."""
    try:
        with safe_open(_place(parts), framework="numpy") as file:
            said = file.metadata()
            if said["fingerprint"] == _fingerprint(parts):
                found = Reference(file.get_tensor("train"), file.get_tensor("validation"))
                return _Kept(found, said["whole"] == "true", int(said["passes"]) if said["plan"] == _plan(parts) else 0)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        pass  # not there, or not whole: it can be computed again
    prepared = parts.prepared
    return _Kept(Reference(_unknown(prepared.train), _unknown(prepared.validation)), False, 0)


def _unknown(tokens: Tokens) -> NDArray[np.float32]:
    return np.full(len(tokens), np.nan, np.float32)


def _write(parts: Parts, reference: Reference, passes: int, *, whole: bool) -> None:
    """Put what all ranks have into the run's folder; all have to call it."""
    reference.filled(parts.ranks.gathered(reference))
    if not parts.ranks.writes:
        return
    said = {
        "fingerprint": _fingerprint(parts),
        "whole": str(whole).lower(),
        "passes": str(passes),
        "plan": _plan(parts),
    }
    write_bytes(_place(parts), save({"train": reference.train, "validation": reference.validation}, said))


def _place(parts: Parts) -> Path:
    return parts.run.folder / "prepared" / "reference.safetensors"


def _fingerprint(parts: Parts) -> str:
    """Of what the numbers depend on: the rows, the model and the way it is loaded, the result it goes on from."""
    model = parts.profile.model.model_dump(mode="json") | {"method": parts.profile.method.name}
    parent = runs.document(parts.ledger, parts.run).fingerprints.get("parent")
    digest = hashlib.sha256(json.dumps([model, parent], sort_keys=True).encode())
    for tokens in (parts.prepared.train, parts.prepared.validation):
        for array in (tokens.ids, tokens.supervised, tokens.starts):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _plan(parts: Parts) -> str:
    """What decides which rows share a forward pass."""
    return f"{parts.layout}, {parts.ranks.world} ranks"


def _compute(parts: Parts, kept: _Kept) -> None:
    """Fill in what is not known yet, in the same forward passes whether it was interrupted or not."""
    at_once = "Stopped at once. Resuming goes on with the reference from what was written last."
    total = parts.prepared.train.examples + parts.prepared.validation.examples
    passes = 0
    # Of several ranks the first hears signals, some of them twice; the job's process is the one that stops at once.
    begun = parts.loaded.model if not chain.begins_with_adapter(parts) else None
    with stopping(at_once if parts.ranks.world == 1 else None) as stop, validate.asking(parts.loaded), bare(begun):
        watch = _Watch(parts, kept.reference, total, stop)
        for piece, values in _pieces(parts, kept.reference):
            passes += 1
            if passes > kept.passes:
                batch = piece.batch.to(parts.loaded.device)
                logps = scored(parts.scorer, batch)
                if piece.counts:
                    values[list(batch.rows)] = logps.cpu().numpy()
            watch.after(passes, len(piece.batch.rows) // 2 * parts.ranks.world)
    _write(parts, kept.reference, passes, whole=True)
    text = f"Scored {total:,} pairs with the model as it begins: what it comes to prefer is measured against that"
    parts.event("reference", text, step=0)


def scored(scorer: nn.Module, batch: MicroBatch) -> Tensor:
    """Summed log-probabilities of the rows of a micro-batch; [rows] float32."""
    logps, _ = preference.log_probabilities(scorer(batch), batch)
    return logps


def _pieces(parts: Parts, reference: Reference) -> Iterator[tuple[Piece, NDArray[np.float32]]]:
    """This rank's forward passes, as many as every other's, with the numbers that they fill in; the longest pairs first."""
    for tokens, values in ((parts.prepared.train, reference.train), (parts.prepared.validation, reference.validation)):
        if not tokens.examples:
            continue
        longest_first = np.argsort(-example_lengths(tokens, range(tokens.examples)), kind="stable")
        for start in range(0, tokens.examples, AT_ONCE):
            examples = longest_first[start : start + AT_ONCE]
            for piece in parts.ranks.pieces(tokens, examples, parts.layout, equally=True):
                yield piece, values


@contextmanager
def bare(model: nn.Module | None) -> Iterator[None]:
    """The model without its adapter, if it has one that is to be left out."""
    if isinstance(model, PeftModel):
        with model.disable_adapter():
            yield
    else:
        yield


class _Watch:
    """Between two forward passes: say how far it is, write what there is now and then, stop where that was asked for."""

    def __init__(self, parts: Parts, reference: Reference, total: int, stop: Event) -> None:
        self._parts, self._reference, self._total, self._stop = parts, reference, total, stop
        self._done = 0
        self._told = 0.0
        self._kept = time.monotonic()

    def after(self, passes: int, examples: int) -> None:
        """`passes` are behind, the last of them over so many examples. All ranks do what the first finds to be done."""
        self._done = min(self._total, self._done + examples)
        stopped = self._parts.ranks.tell(self._stopped())
        if stopped or self._parts.ranks.tell(time.monotonic() - self._kept > KEPT_EVERY):
            _write(self._parts, self._reference, passes, whole=False)
            self._kept = time.monotonic()
        if stopped:
            raise KeyboardInterrupt(
                f"Stopped by {stopped} when {self._done:,} of {self._total:,} pairs were scored. Resuming goes on from there."
            )

    def _stopped(self) -> str:
        """By what; empty for nothing."""
        if self._stop.is_set():
            return "signal"
        if time.monotonic() - self._told > TOLD_EVERY and self._parts.ranks.writes:
            self._told = time.monotonic()
            jobs.beat(self._parts.ledger, self._parts.job, done=self._done, total=self._total, doing=DOING)
            for order in orders.waiting(self._parts.ledger, self._parts.run.id):
                if order.verb == "stop":
                    orders.acknowledge(self._parts.ledger, order, step=None, answer="taken before the first step")
                    return "order"
        return ""
