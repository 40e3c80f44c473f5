"""The arithmetic of a step on a real model: accumulation, the head on some columns only, quantised bases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.data.prepare import Tokens
from engine.profile import Profile
from engine.train import model, step, validate
from engine.train.batches import Layout, micro_batches
from engine.train.checkpoint import trained
from engine.train.model import Loaded
from engine.train.objective import Likelihood
from engine.train.rehearse import rehearse
from engine.train.scorer import Scorer
from tests.engine.train.test_batches import ragged
from tests.tiny import tiny_profile

pytestmark = pytest.mark.usefixtures("settled")
CPU = torch.device("cpu")


def load(profile: Profile) -> Loaded:
    loaded = model.load(profile, CPU, vocabulary=400)
    with torch.no_grad():  # an adapter starts as nothing; give it something to differentiate
        for weight in trained(loaded.model).values():
            weight.add_(0.02 * torch.randn_like(weight))
    return loaded


def gradients(loaded: Loaded, size: int, lengths: list[int]) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one effective batch in micro-batches of `size`."""
    tokens = ragged(lengths)
    rows = range(len(lengths))
    loaded.model.zero_grad(set_to_none=True)
    objective, scorer = Likelihood(), Scorer(loaded.model, loaded.autocast)
    count = objective.count(tokens, rows)
    shares = [
        step.forward_backward(objective, scorer, batch, count).total
        for batch in micro_batches(tokens, rows, Layout(size, pad_id=0))
    ]
    found = {name: weight.grad.clone() for name, weight in trained(loaded.model).items() if weight.grad is not None}
    return float(torch.stack(shares).sum()), found


def validation_loss(loaded: Loaded, tokens: Tokens, size: int) -> float:
    scorer = Scorer(loaded.model, loaded.autocast)
    return validate.validation_loss(loaded, scorer, Likelihood(), tokens, Layout(size, pad_id=0))["loss"]


def test_accumulation_equals_one_large_batch_on_ragged_lengths(tiny_base: Path) -> None:
    loaded = load(tiny_profile(tiny_base, Path("rows"), **{"method.dropout": 0.0}))
    lengths = [5, 40, 11, 90, 23, 7, 64, 12]
    whole_loss, whole = gradients(loaded, 8, lengths)
    for size in (1, 2, 3):
        loss, found = gradients(loaded, size, lengths)
        assert loss == pytest.approx(whole_loss, rel=1e-6)
        for name, gradient in whole.items():
            torch.testing.assert_close(found[name], gradient, rtol=2e-4, atol=1e-6)


def test_the_loss_is_the_model_s_own(tiny_base: Path) -> None:
    loaded = load(tiny_profile(tiny_base, Path("rows"), **{"method.dropout": 0.0}))
    tokens = ragged([30])
    labels = torch.where(torch.tensor(tokens.supervised), torch.tensor(tokens.ids, dtype=torch.long), -100)[None]
    own = loaded.model(input_ids=torch.tensor(tokens.ids, dtype=torch.long)[None], labels=labels).loss
    loss = validation_loss(loaded, tokens, 2)
    assert loss == pytest.approx(float(own.detach()), rel=1e-6)


def test_validation_draws_no_random_number_and_leaves_dropout_on(tiny_base: Path) -> None:
    loaded = load(tiny_profile(tiny_base, Path("rows"), **{"method.dropout": 0.5}))
    before = torch.get_rng_state()
    validation_loss(loaded, ragged([9, 30]), 1)
    prompt, written = validate.sample(loaded, ragged([20]), 0, end_ids=(1,), pad_id=0)
    assert len(prompt) == 10 and written
    assert torch.equal(before, torch.get_rng_state())
    assert loaded.model.training


@pytest.mark.parametrize("double", [True, False])
def test_evaluating_a_quantised_model_does_not_change_its_next_gradient(tiny_base: Path, double: bool) -> None:
    settings = {"model.quantization": "nf4", "model.dtype": "bfloat16", "model.double_quantization": double}
    loaded = load(tiny_profile(tiny_base, Path("rows"), **{**settings, "method.dropout": 0.0}))
    assert any(type(part).__name__ == "Linear4bit" for part in loaded.model.modules())
    assert all(weight.dtype == torch.float32 for weight in trained(loaded.model).values())
    _, before = gradients(loaded, 2, [12, 30])
    validation_loss(loaded, ragged([9, 30]), 1)
    _, after = gradients(loaded, 2, [12, 30])
    assert all(torch.equal(before[name], after[name]) for name in before)
    optimizer = torch.optim.AdamW(trained(loaded.model).values(), lr=1e-2)
    losses = []
    for _ in range(15):
        loss, _ = gradients(loaded, 2, [12, 30])
        step.update(optimizer)
        losses.append(loss)
    assert losses[-1] < 0.8 * losses[0]


def test_rehearsing_the_longest_rows_leaves_no_trace(tiny_base: Path) -> None:
    loaded = load(tiny_profile(tiny_base, Path("rows"), **{"method.dropout": 0.5}))
    before, weights = torch.get_rng_state(), {name: w.detach().clone() for name, w in trained(loaded.model).items()}
    seen: list[tuple[int, ...]] = []
    hook = loaded.model.register_forward_pre_hook(
        lambda module, arguments, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    rehearse(loaded, Scorer(loaded.model, None), Likelihood(), ragged([9, 50, 30, 50]), Layout(2, pad_id=0), 4)
    hook.remove()
    assert seen == [(2, 50)]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(weights[name], w) and w.grad is None for name, w in trained(loaded.model).items())


def test_gradients_are_clipped_to_the_norm(tiny_base: Path) -> None:
    loaded = load(tiny_profile(tiny_base, Path("rows")))
    _, found = gradients(loaded, 2, [12, 30])
    norm = torch.stack([gradient.norm() for gradient in found.values()]).norm()
    weights = trained(loaded.model).values()
    assert float(step.clip(weights, 0.01)) == pytest.approx(float(norm), rel=1e-5)
    clipped = torch.stack([weight.grad.norm() for weight in weights if weight.grad is not None]).norm()
    assert float(clipped) == pytest.approx(0.01, rel=1e-3)
