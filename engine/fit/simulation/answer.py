"""Simulates the engine's own step, from a question to what it allocates and what that comes to."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from engine.fit.allocator import Allocator, MainMemory, replay
from engine.fit.question import Answer, Part, Question
from engine.fit.simulation import arranging, building, loading, ranks, standins, stepping
from engine.fit.simulation.paging import paged
from engine.fit.simulation.shortening import shortened
from engine.fit.simulation.tracing import Tracer, tensors
from engine.fit.stream import Stream
from engine.train import objective, optimizer
from engine.train.parts import Learner
from engine.train.scorer import Scorer


def answer(question: Question) -> Answer:
    """What the step takes.

    Raises:
        Problem: it cannot be simulated: an unknown architecture, a method that it does not bear, keys that are missing.
    """
    on_gpu = question.machine.capability is not None
    memory = Allocator(expandable=True) if on_gpu else MainMemory()  # as `engine.turns.show_only` has it
    found = replay(shortened(question, stream), memory)
    return Answer(found.allocated, found.reserved, found.phases, found.parts)


@standins.flash_installed()
def stream(question: Question) -> Stream:
    """What the step allocates and frees, in order, with all layers simulated.

    Raises:
        Problem: as `answer`.
    """
    profile = building.profile_of(question)
    config = building.configuration(question.config, profile.model)
    loaded = building.built(config, profile)
    scorer = Scorer(loaded.model, loaded.autocast)
    layout = arranging.layout_of(scorer, question.step)
    asked = objective.make(profile.training)
    loading.prepare()
    on_gpu = question.machine.capability is not None
    device = torch.device("cuda" if on_gpu else "cpu")  # only asked whether it can page
    vocabulary = config.get_text_config().vocab_size
    with (
        ranks.among(question.machine) as mesh,
        Tracer(capability=question.machine.capability, vocabulary=vocabulary) as tracer,
        paged(tracer),
    ):
        with tracer.host() if ranks.beside(question) else nullcontext():
            loading.load(loaded.model, profile.model, tracer)
        spread = ranks.spread(scorer, loaded.model, question, mesh, tracer)
        tracer.follow(building.layers_of(loaded.model))
        learner = Learner(
            profile=profile,
            loaded=loaded,
            scorer=spread,
            objective=asked,
            validation_objective=asked,
            optimizer=optimizer.make(loaded.model, profile.training, device),
            ranks=stepping.Copying(),
        )
        stepping.run(
            learner,
            question.step,
            layout,
            tracer.phase,
            over=lambda part: _mark(tracer, learner, part),
            host=tracer.host if on_gpu else nullcontext,
        )
    return tracer.stream


def _mark(tracer: Tracer, learner: Learner, part: str) -> None:
    """Say what tensors are for that a part of a step has left behind."""
    if part == "backward":
        weights = learner.loaded.model.parameters()
        tracer.mark(Part.GRADIENTS, (weight.grad for weight in weights if weight.grad is not None))
    elif part == "update":
        tracer.mark(Part.OPTIMIZER, tensors(dict(learner.optimizer.state)))
