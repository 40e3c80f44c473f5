"""What is minimised, held against formulas written out by hand and as TRL writes them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from engine.data.prepare import Tokens
from engine.profile import Training
from engine.train import model, objective, preference, step, validate
from engine.train.batches import Layout, micro_batches
from engine.train.checkpoint import trained
from engine.train.model import Loaded
from engine.train.objective import Dpo, Likelihood, Objective, Orpo
from engine.train.scorer import Scorer
from tests.engine.train.test_batches import ragged
from tests.tiny import tiny_profile

pytestmark = pytest.mark.usefixtures("settled")
CPU = torch.device("cpu")
PAIRS = [30, 12, 9, 40, 22, 23, 50, 7]  # lengths of chosen, rejected, chosen, ...


def paired(lengths: list[int], seed: int = 0) -> Tokens:
    """Pairs of rows of these lengths, the later part of each supervised."""
    return replace(ragged(lengths, seed), per_example=2)


@pytest.fixture
def loaded(tiny_base: Path) -> Loaded:
    """The tiny base with an adapter that does something, without dropout."""
    made = model.load(tiny_profile(tiny_base, Path("rows"), **{"method.dropout": 0.0}), CPU, vocabulary=400)
    with torch.no_grad():
        for weight in trained(made.model).values():
            weight.add_(0.05 * torch.randn_like(weight))
    return made


@torch.no_grad()
def by_hand(loaded: Loaded, tokens: Tokens) -> list[Tensor]:
    """Log-probabilities of each row's supervised tokens, one row at a time, from all logits."""
    found = []
    for row in range(len(tokens)):
        inside = slice(int(tokens.starts[row]), int(tokens.starts[row + 1]))
        ids = torch.tensor(tokens.ids[inside], dtype=torch.long)
        logits = loaded.model(input_ids=ids[None], use_cache=False).logits[0, :-1].log_softmax(-1)
        said = logits.gather(1, ids[1:, None])[:, 0]
        found.append(said[torch.tensor(tokens.supervised[inside][1:])])
    return found


def reference_of(tokens: Tokens) -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(-60, 20, len(tokens)).astype(np.float32)


def effective_batch(
    loaded: Loaded, tokens: Tokens, asked: Objective, layout: Layout
) -> tuple[float, dict[str, float], dict[str, Tensor]]:
    """Loss, what else is told, and gradients of all examples in micro-batches."""
    loaded.model.zero_grad(set_to_none=True)
    examples = range(tokens.examples)
    count = asked.count(tokens, examples)
    scorer = Scorer(loaded.model, loaded.autocast)
    losses = [step.forward_backward(asked, scorer, batch, count) for batch in micro_batches(tokens, examples, layout)]
    told = {name: sum(float(loss.told[name]) for loss in losses) / count for name in losses[0].told}
    gradients = {name: weight.grad.clone() for name, weight in trained(loaded.model).items() if weight.grad is not None}
    return sum(float(loss.total) for loss in losses), told, gradients


def trl_dpo(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """As `DPOTrainer.dpo_loss`, loss_type "sigmoid", label smoothing 0: [pairs]."""
    logits = (policy[0::2] - policy[1::2]) - (reference[0::2] - reference[1::2])
    return -functional.logsigmoid(beta * logits)


def trl_orpo(means: Tensor, nll: Tensor, beta: float) -> Tensor:
    """As `ORPOTrainer.odds_ratio_loss` and `get_batch_loss_metrics`: [pairs]."""
    chosen, rejected = means[0::2], means[1::2]
    log_odds = (chosen - rejected) - (torch.log1p(-torch.exp(chosen)) - torch.log1p(-torch.exp(rejected)))
    return nll - beta * torch.log(torch.sigmoid(log_odds))


@pytest.mark.parametrize("normalised", [False, True], ids=["summed", "length-normalised"])
def test_dpo_is_the_paper_s_and_trl_s(loaded: Loaded, normalised: bool) -> None:
    tokens, beta = paired(PAIRS), 0.3
    reference = reference_of(tokens)
    said = by_hand(loaded, tokens)
    ours, told, _ = effective_batch(loaded, tokens, Dpo(beta, normalised, reference), Layout(4, 0))

    lengths = torch.tensor([len(row) for row in said]) if normalised else torch.ones(len(said))
    policy = torch.stack([row.sum() for row in said]).detach() / lengths
    before = torch.from_numpy(reference) / lengths
    assert ours == pytest.approx(float(trl_dpo(policy, before, beta).mean()), rel=1e-5)

    rewards = [beta * (float(row) - float(base)) for row, base in zip(policy, before, strict=True)]
    margins = [chosen - rejected for chosen, rejected in zip(rewards[0::2], rewards[1::2], strict=True)]
    assert ours == pytest.approx(sum(math.log1p(math.exp(-margin)) for margin in margins) / 4, rel=1e-5)
    assert told["reward_margin"] == pytest.approx(sum(margins) / 4, rel=1e-4)
    assert told["accuracy"] == sum(margin > 0 for margin in margins) / 4
    assert 0 < told["accuracy"] < 1
    assert told["chosen_reward"] == pytest.approx(sum(rewards[0::2]) / 4, rel=1e-4)
    assert told["rejected_reward"] == pytest.approx(sum(rewards[1::2]) / 4, rel=1e-4)
    assert told["chosen_logp"] == pytest.approx(float(policy[0::2].mean()), rel=1e-5)
    assert told["rejected_logp"] == pytest.approx(float(policy[1::2].mean()), rel=1e-5)


def test_orpo_is_the_paper_s_and_trl_s(loaded: Loaded) -> None:
    tokens, beta = paired(PAIRS), 0.3
    said = by_hand(loaded, tokens)
    ours, told, _ = effective_batch(loaded, tokens, Orpo(beta), Layout(4, 0))
    means = torch.stack([row.mean() for row in said]).detach()
    assert ours == pytest.approx(float(trl_orpo(means, -means[0::2], beta).mean()), rel=1e-5)

    probabilities = [math.exp(float(mean)) for mean in means]
    odds = [probability / (1 - probability) for probability in probabilities]
    ratios = [chosen / rejected for chosen, rejected in zip(odds[0::2], odds[1::2], strict=True)]
    preferring = [-math.log(1 / (1 + 1 / ratio)) for ratio in ratios]
    nll = [-math.log(probability) for probability in probabilities[0::2]]
    assert ours == pytest.approx((sum(nll) + beta * sum(preferring)) / 4, rel=1e-5)
    assert told["chosen_loss"] == pytest.approx(sum(nll) / 4, rel=1e-5)
    assert told["accuracy"] == sum(ratio > 1 for ratio in ratios) / 4


def test_orpo_of_a_response_known_by_heart_is_a_number() -> None:
    """log(1 - exp(logp)), as it is usually written, is minus infinity in float32 from a logp of -3e-8 on."""
    means = torch.tensor([-1e-8, -2.0, -1.0, -1e-8, 0.0, -1.0], requires_grad=True)
    usual = trl_orpo(means, -means[0::2], 0.1)
    (gradient,) = torch.autograd.grad(usual.sum(), means)
    assert not torch.isfinite(usual[1]) and not torch.isfinite(gradient).all()
    loss = preference.orpo(means, 0.1)
    (gradient,) = torch.autograd.grad(loss.sum(), means)
    assert torch.isfinite(loss).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["dpo", "dpo length-normalised", "orpo"])
def test_accumulation_over_pairs_equals_one_large_batch(loaded: Loaded, name: str) -> None:
    """transformers#34191, for losses over pairs, padded and packed."""
    tokens = paired(PAIRS)
    asked = Orpo(0.5) if name == "orpo" else Dpo(0.5, "normalised" in name, reference_of(tokens))
    whole_loss, whole_told, whole = effective_batch(loaded, tokens, asked, Layout(8, 0))
    for layout in (
        *(Layout(size, 0) for size in (1, 2, 4, 6)),
        Layout(1, 0, row_tokens=80),
        Layout(2, 0, row_tokens=60),
    ):
        loss, told, found = effective_batch(loaded, tokens, asked, layout)
        assert loss == pytest.approx(whole_loss, rel=1e-5)
        assert told == pytest.approx(whole_told, rel=1e-4)
        for key, gradient in whole.items():
            torch.testing.assert_close(found[key], gradient, rtol=2e-4, atol=1e-6)


def test_a_pair_is_never_divided_and_its_order_is_kept() -> None:
    tokens = paired([5, 40, 11, 90, 23, 7, 64, 12, 30, 31])
    layouts = [Layout(size, 0) for size in (1, 2, 3, 4, 7)]
    layouts += [Layout(2, 0, row_tokens=100), Layout(1, 0, row_tokens=50), Layout(2, 0, row_tokens=100, flat=True)]
    for layout in layouts:
        found = list(micro_batches(tokens, range(5), layout))
        assert sorted(row for batch in found for row in batch.rows) == list(range(10))
        for batch in found:
            assert len(batch.rows) % 2 == 0
            for chosen, rejected in zip(batch.rows[0::2], batch.rows[1::2], strict=True):
                assert chosen % 2 == 0 and rejected == chosen + 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Likelihood),
        ({"objective": "pretrain"}, Likelihood),
        ({"objective": "dpo", "beta": 0.2, "length_normalised": True}, Dpo(0.2, True)),
        ({"objective": "orpo", "beta": 0.2}, Orpo(0.2)),
    ],
)
def test_a_profile_says_its_objective(settings: dict[str, object], expected: object) -> None:
    made = objective.make(Training.model_validate(settings))
    assert type(made) is expected if isinstance(expected, type) else made == expected


def test_dpo_learns_to_prefer_and_tells_so(loaded: Loaded) -> None:
    tokens = paired(PAIRS)
    scorer = Scorer(loaded.model, loaded.autocast)
    reference = np.array([row.sum() for row in by_hand(loaded, tokens)], np.float32)
    asked = Dpo(0.1, False, reference)
    optimizer = torch.optim.AdamW(trained(loaded.model).values(), lr=5e-3)
    first = validate.validation_loss(loaded, scorer, asked, tokens, Layout(4, 0))
    assert first["loss"] == pytest.approx(math.log(2), rel=1e-4)  # the policy is its own reference
    for _ in range(12):
        effective_batch(loaded, tokens, asked, Layout(4, 0))
        step.update(optimizer)
    last = validate.validation_loss(loaded, scorer, asked, tokens, Layout(4, 0))
    assert last["loss"] < 0.5 * first["loss"] and last["accuracy"] == 1
    assert last["reward_margin"] > 1 > first["reward_margin"]
