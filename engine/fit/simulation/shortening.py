"""The stream of a large model, simulated on a few of its layers.

Layers of a kind hold the same modules with the same settings, which a model without weights shows in a moment. It is cut to few layers
(`engine.fit.cuts`), these are simulated, and the stream is extended (`engine.fit.extending`); where that turns out impossible all layers are
simulated, which takes longer and is as right.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Hashable, Sequence
from dataclasses import replace

from torch import nn
from transformers import PreTrainedConfig

from engine.fit.cuts import Cut, Kind, cuts
from engine.fit.extending import IrregularError, extended, indexed
from engine.fit.question import Question
from engine.fit.simulation import building
from engine.fit.simulation.beside import Simulate, beside
from engine.fit.stream import Stream

NAMES_A_LAYER = re.compile(r"(^|\.)\d+(\.|$)")
_log = logging.getLogger(__name__)


def shortened(question: Question, simulate: Simulate) -> Stream:
    """What `simulate` says of the question, from what it says of the same with fewer layers.

    Raises:
        Problem: as `simulate`.
    """
    config = building.configuration(question.config, building.profile_of(question).model)
    streams: dict[tuple[int, ...], Stream] = {}
    for cut in _cuts(question, config):
        left = [places for places in (cut.short, cut.longer) if places not in streams]
        asked = [replace(question, config=building.cut(config, places).to_dict()) for places in left]
        streams |= zip(left, beside(asked, simulate), strict=True)
        try:
            if cut.alike:
                _check_alike(streams[cut.longer], len(cut.longer))
            return extended(streams[cut.short], streams[cut.longer], cut.periods)
        except IrregularError as reason:
            _log.info("%s layers do not tell of all: %s", len(cut.longer), reason)
    return simulate(question)


def _cuts(question: Question, config: PreTrainedConfig) -> list[Cut]:
    """The cuts that keep layers of the kinds that they say; none where layers are told apart otherwise.

    Replicas' gradients are reduced in buckets, whose borders are not those of layers.
    """
    machine = question.machine
    targets = question.method.get("targets")
    apart = isinstance(targets, Sequence) and any(NAMES_A_LAYER.search(str(name)) for name in targets)
    if "auto_map" in question.config or apart or (machine.ranks > 1 and machine.sharding == "replicate"):
        return []
    kinds = _kinds(config)
    return [cut for cut in cuts(kinds) if all(_keeps(kinds, config, places) for places in (cut.short, cut.longer))]


def _keeps(kinds: Sequence[Kind], config: PreTrainedConfig, places: Sequence[int]) -> bool:
    return _kinds(building.cut(config, places)) == [kinds[place] for place in places]


def _kinds(config: PreTrainedConfig) -> list[Kind]:
    """The kind of each decoder layer."""
    return [Kind(_structure(layer), _settings(layer)) for layer in building.layers_of(building.empty(config))]


def _structure(layer: nn.Module) -> Hashable:
    return tuple(
        (
            name,
            type(module).__name__,
            tuple((key, tuple(held.shape)) for key, held in module.named_parameters(recurse=False)),
        )
        for name, module in layer.named_modules()
    )


def _settings(layer: nn.Module) -> Hashable:
    """The plain values that its modules hold, but for the layer's place."""
    return tuple(
        (name, key, value)
        for name, module in layer.named_modules()
        for key, value in sorted(vars(module).items())
        if key != "layer_idx" and isinstance(value, (bool, int, float, str, type(None)))
    )


def _check_alike(stream: Stream, layers: int) -> None:
    """That all layers but the first and the last do the same.

    Raises:
        IrregularError: they do not.
    """
    done = indexed(stream)
    said: list[list[Hashable]] = [[] for _ in range(layers)]
    for event, what in zip(done.events, done.said, strict=True):
        if event.layer is not None:
            said[event.layer].append(what)
    if any(other != said[1] for other in said[2:-1]):
        raise IrregularError("layers of different kinds do different things")
