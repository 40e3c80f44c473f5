"""Validation and samples: what they say, and that neither leaves a trace in the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from engine.train import model, objective, validate
from engine.train.batches import Layout, MicroBatch
from engine.train.checkpoint import trained
from engine.train.model import Loaded
from engine.train.objective import Dpo, Likelihood, Objective, Orpo
from engine.train.scorer import Scorer
from tests.engine.train.test_batches import ragged
from tests.engine.train.test_objectives import CPU, PAIRS, loaded, paired, reference_of
from tests.tiny import tiny_profile

__all__ = ["loaded"]  # a fixture
pytestmark = pytest.mark.usefixtures("settled")


@pytest.mark.parametrize(
    "asked", [Likelihood(), Dpo(0.1, False, reference_of(paired(PAIRS))), Orpo(0.1)], ids=lambda one: type(one).__name__
)
def test_validation_says_the_same_padded_and_packed(loaded: Loaded, asked: Objective) -> None:
    tokens, scorer = paired(PAIRS), Scorer(loaded.model, None)
    padded = validate.validation_loss(loaded, scorer, asked, tokens, Layout(4, 0))
    for layout in (Layout(2, 0), Layout(2, 0, row_tokens=60), Layout(1, 0, row_tokens=200)):
        assert validate.validation_loss(loaded, scorer, asked, tokens, layout) == pytest.approx(padded, rel=1e-4)


@pytest.mark.parametrize("method", ["full", "lora", "ia3", "prefix", "p_tuning", "prompt_tuning"])
def test_every_method_writes_a_sample_with_what_it_has_learned(tiny_base: Path, method: str) -> None:
    made = model.load(tiny_profile(tiny_base, Path("rows"), **{"method.name": method}), CPU, vocabulary=400)
    tokens = ragged([20])
    before = validate.sample(made, tokens, 0, end_ids=(1,), pad_id=0)
    with torch.no_grad():
        for weight in trained(made.model).values():
            weight.add_(0.5 * torch.randn_like(weight))
    state = torch.get_rng_state()
    prompt, written = validate.sample(made, tokens, 0, end_ids=(1,), pad_id=0)
    assert torch.equal(state, torch.get_rng_state()) and made.model.training
    assert prompt == before[0] == tokens.ids[:10].tolist() and written and written != before[1]
    ids = torch.tensor([prompt])
    with validate.asking(made):  # token by token, without a cache
        for said in written[:4]:
            logits = made.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            assert int(logits[0, -1].argmax()) == said
            ids = torch.cat([ids, torch.tensor([[said]])], dim=1)


@pytest.mark.parametrize("after", [0, 2])
def test_validation_stops_between_two_micro_batches_without_a_trace(loaded: Loaded, after: int) -> None:
    tokens = ragged([9, 30, 12, 20])
    seen: list[MicroBatch] = []

    class Watching(Likelihood):
        def loss(self, scorer: nn.Module, batch: MicroBatch) -> objective.Loss:
            seen.append(batch)
            return super().loss(scorer, batch)

    before = torch.get_rng_state()
    with pytest.raises(validate.Interrupted):
        validate.validation_loss(
            loaded, Scorer(loaded.model, None), Watching(), tokens, Layout(1, 0), stop=lambda: len(seen) >= after
        )
    assert len(seen) == after
    assert loaded.model.training and torch.is_grad_enabled() and torch.equal(before, torch.get_rng_state())


def test_validation_keeps_no_logits(loaded: Loaded) -> None:
    """transformers#12878: memory of an evaluation grew with every batch, as all logits were kept to its end."""
    alive: list[int] = []
    kept: list[object] = []

    def after(_module: nn.Module, _arguments: object, output: object) -> None:
        import weakref

        logits = output.logits  # type: ignore[attr-defined]
        kept.append(weakref.ref(logits))
        alive.append(sum(reference() is not None for reference in kept))  # type: ignore[operator]

    hook = loaded.model.register_forward_hook(after)
    validate.validation_loss(loaded, Scorer(loaded.model, None), Likelihood(), ragged([30] * 6), Layout(1, 0))
    hook.remove()
    assert alive == [1] * 6
