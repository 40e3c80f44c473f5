"""Packing: several examples share a row and never see each other, on real models of the architectures that differ."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.data.prepare import Tokens
from engine.ledger import events
from engine.train import attention, batches, leaks, model, packing, step, validate
from engine.train.batches import Layout, micro_batches
from engine.train.checkpoint import trained
from engine.train.model import Loaded
from engine.train.objective import Dpo, Likelihood, Objective
from engine.train.packing import Choice
from engine.train.rehearse import costliest
from engine.train.scorer import Scorer, base_of
from tests.engine.train.conftest import Bench
from tests.engine.train.test_batches import ragged
from tests.engine.train.test_objectives import paired
from tests.models import Family, make
from tests.tiny import tiny_profile

pytestmark = pytest.mark.usefixtures("settled")
CPU = torch.device("cpu")
LENGTHS = [5, 40, 11, 90, 23, 7, 64, 12]
PADDED = Layout(3, pad_id=0)
ROWS = Layout(2, pad_id=0, row_tokens=64)
FLAT = Layout(2, pad_id=0, row_tokens=64, flat=True)


def ready(base: Path, **changes: object) -> tuple[Loaded, Scorer, Choice]:
    """A model with an adapter that does something, and how its rows are laid out; packing is asked for."""
    asked = {"method.dropout": 0.0, "training.packing": True, "training.row_tokens": 64, **changes}
    profile = tiny_profile(base, Path("rows"), **asked)
    loaded = model.load(profile, CPU, vocabulary=400)
    if profile.method.name != "full":
        with torch.no_grad():
            for weight in trained(loaded.model).values():
                weight.add_(0.02 * torch.randn_like(weight))
    scorer = Scorer(loaded.model, loaded.autocast)
    return loaded, scorer, packing.choose(loaded, scorer, profile, 0)


def gradients(scorer: Scorer, objective: Objective, tokens: Tokens, layout: Layout) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one effective batch of all examples."""
    scorer.zero_grad(set_to_none=True)
    count = objective.count(tokens, range(tokens.examples))
    shares = [
        step.forward_backward(objective, scorer, batch, count).total
        for batch in micro_batches(tokens, range(tokens.examples), layout)
    ]
    found = {name: weight.grad.clone() for name, weight in trained(scorer.model).items() if weight.grad is not None}
    return float(torch.stack(shares).sum()), found


def difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest gradient."""
    assert found.keys() == expected.keys() and found
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    return max(float((found[name] - expected[name]).abs().max()) for name in found) / largest


@pytest.mark.parametrize("layout", [ROWS, FLAT], ids=["rows", "flat"])
@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({}, 1e-4),
        ({"training.checkpoint_activations": True}, 1e-4),
        ({"method.modules_to_save": ("embed_tokens", "lm_head")}, 1e-4),
        ({"method.name": "full"}, 1e-4),
        ({"method.name": "full", "model.dtype": "bfloat16"}, 0.05),  # computed in bfloat16, weights in float32
        ({"model.dtype": "bfloat16"}, 0.05),
    ],
    ids=["lora", "recomputed", "embeddings", "full", "full-bf16", "lora-bf16"],
)
def test_packed_loss_and_gradients_are_those_of_padded_rows(
    tiny_base: Path, changes: dict[str, object], tolerance: float, layout: Layout
) -> None:
    _, scorer, chosen = ready(tiny_base, **changes)
    assert chosen == Choice(FLAT)
    reference = -np.arange(len(LENGTHS), dtype=np.float32)
    for objective, tokens in ((Likelihood(), ragged(LENGTHS)), (Dpo(0.1, False, reference), paired(LENGTHS))):
        loss, found = gradients(scorer, objective, tokens, layout)
        expected_loss, expected = gradients(scorer, objective, tokens, PADDED)
        assert loss == pytest.approx(expected_loss, rel=tolerance / 10)
        assert difference(found, expected) < tolerance


@cache
def shared(base: Path) -> Scorer:
    """One packed model for many draws of lengths."""
    _, scorer, chosen = ready(base)
    assert chosen == Choice(FLAT)
    return scorer


@given(
    lengths=st.lists(st.integers(2, 70), min_size=1, max_size=8),
    at_once=st.integers(1, 3),
    row_tokens=st.integers(16, 96),
    flat=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_accumulation_of_n_equals_a_batch_n_times_larger_on_ragged_lengths(
    tiny_base: Path, lengths: list[int], at_once: int, row_tokens: int, flat: bool
) -> None:
    # transformers#34191, #35203, #37766, #37474
    scorer, tokens = shared(tiny_base), ragged(lengths)
    loss, found = gradients(scorer, Likelihood(), tokens, Layout(at_once, 0, row_tokens, flat))
    for whole in (Layout(len(lengths), pad_id=0), Layout(1, 0, sum(lengths), flat=True)):
        expected_loss, expected = gradients(scorer, Likelihood(), tokens, whole)
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        assert difference(found, expected) < 1e-3


def second_scores(scorer: Scorer, layout: Layout, seed: int) -> Tensor:
    """Of a document of 33 tokens behind one of 40 that `seed` draws; both are longer than the tiny models' windows."""
    second, first = ragged([33], 0), ragged([40], seed)
    tokens = Tokens(
        np.concatenate((first.ids, second.ids)),
        np.ones(73, np.bool_),
        np.array([0, 40, 73]),
        ("first", "second"),
    )
    (batch,) = micro_batches(tokens, [0, 1], layout)
    with torch.no_grad():
        scores: Tensor = scorer(batch)[batch.owners == 1]
    return scores


PACKED_SDPA, PACKED_EAGER = Layout(2, 0, 80, flat=True), Layout(2, 0, 80)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("family", "attention"),
    [
        ("llama", "sdpa"),
        ("llama", "eager"),
        ("qwen3", "sdpa"),
        ("gemma3", "sdpa"),
        ("gemma3", "eager"),
        ("gemma4", "sdpa"),
        ("mistral", "sdpa"),
        ("mistral", "eager"),
    ],
)
def test_packing_does_not_contaminate_a_document_with_the_one_before_it(
    tmp_path: Path, family: Family, attention: str, dtype: str
) -> None:
    # trl#1230, trl#3067
    changes = {"model.attention": attention, "model.dtype": dtype, "training.row_tokens": 80}
    _, scorer, chosen = ready(make(family, tmp_path), **changes)
    assert chosen.layout == (PACKED_SDPA if attention == "sdpa" else PACKED_EAGER)
    scorer.eval()
    before = second_scores(scorer, chosen.layout, 1)
    assert torch.equal(before, second_scores(scorer, chosen.layout, 2))
    alone = second_scores(scorer, Layout(2, pad_id=0), 1)
    torch.testing.assert_close(before, alone, rtol=0, atol=2e-6 if dtype == "float32" else 0.1)


def test_experts_round_differently_in_other_company_and_are_packed_all_the_same(tmp_path: Path) -> None:
    _, scorer, chosen = ready(make("qwen3_moe", tmp_path), **{"training.row_tokens": 80})
    assert chosen == Choice(PACKED_SDPA)
    scorer.eval()
    before, after = (second_scores(scorer, chosen.layout, seed) for seed in (1, 2))
    torch.testing.assert_close(before, after, rtol=0, atol=2e-6)


def test_rows_that_flat_attention_cannot_take_are_packed_behind_a_mask_and_that_is_said(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")  # a GPU's kernel, of float32

    monkeypatch.setattr(attention, "_window", refuse)
    _, scorer, chosen = ready(tiny_base)
    assert chosen.layout == ROWS and base_of(scorer.model).config._attn_implementation == "sdpa"
    (said,) = chosen.refused
    assert said.startswith("Rows are packed behind a mask") and said.endswith("fp16 and bf16 data type.")


@pytest.mark.parametrize(("family", "attention"), [("qwen3_5", "sdpa"), ("gpt_oss", "eager")])
def test_a_model_whose_documents_see_each_other_is_not_packed(tmp_path: Path, family: Family, attention: str) -> None:
    # transformers#46851; of gpt_oss transformers 5.23 does not give the positions to the mask
    loaded, _, chosen = ready(make(family, tmp_path), **{"model.attention": attention})
    assert chosen.layout == Layout(2, pad_id=0)
    assert len(chosen.refused) == 1 and "its documents see each other" in chosen.refused[0]
    assert base_of(loaded.model).config._attn_implementation == attention


@pytest.mark.parametrize("method", ["prefix", "p_tuning", "prompt_tuning"])
def test_what_learns_a_prompt_is_never_packed(tiny_base: Path, method: str) -> None:
    # They leak whatever one does: the virtual tokens stand before the row.
    profile = tiny_profile(tiny_base, Path("rows"), **{"method.name": method})
    profile = profile.model_copy(update={"training": profile.training.model_copy(update={"packing": True})})
    loaded = model.load(profile, CPU, vocabulary=400)
    chosen = packing.choose(loaded, Scorer(loaded.model, loaded.autocast), profile, 0)
    assert chosen.layout == Layout(2, pad_id=0)
    assert "virtual tokens" in chosen.refused[0]


# Measured in transformers 5.23: with its default cache another first document moved the second's logits by 7.5, with a mask of ones by 0.4.
@pytest.mark.parametrize(
    "trap",
    [{"use_cache": True}, {"use_cache": False, "attention_mask": torch.ones(1, 73, dtype=torch.long)}],
    ids=["use_cache", "all-ones-mask"],
)
def test_packed_rows_are_scored_without_a_cache_and_without_a_mask_since_either_leaks(
    tiny_base: Path, trap: dict[str, Any]
) -> None:
    loaded, scorer, _ = ready(tiny_base, **{"model.attention": "eager"})
    loaded.model.eval()
    positions = torch.cat((torch.arange(40), torch.arange(33)))[None]

    def second(first: int, **how: object) -> Tensor:
        ids = torch.tensor(np.concatenate((ragged([40], first).ids, ragged([33], 0).ids)), dtype=torch.long)[None]
        with torch.no_grad():
            logits: Tensor = loaded.model(input_ids=ids, position_ids=positions, **how).logits[0, 40:]
        return logits

    assert float((second(1, **trap) - second(2, **trap)).abs().max()) > 1e-3  # what would happen
    assert torch.equal(second(1, use_cache=False), second(2, use_cache=False))
    seen: list[dict[str, Any]] = []
    hook = loaded.model.register_forward_pre_hook(
        lambda module, arguments, named: seen.append(dict(named)), with_kwargs=True
    )
    scorer.own_head = True
    scorer(next(micro_batches(ragged([40, 20]), [0, 1], ROWS)))
    hook.remove()
    assert [named["use_cache"] for named in seen] == [False] and seen[0]["attention_mask"] is None


def test_the_leak_test_leaves_no_trace(tiny_base: Path) -> None:
    loaded, scorer, _ = ready(tiny_base, **{"method.dropout": 0.5})
    loaded.model.get_base_model().get_input_embeddings().eval()  # a part in another mode than the rest
    before, modes = torch.get_rng_state(), [part.training for part in scorer.modules()]
    weights = {name: weight.clone() for name, weight in trained(loaded.model).items()}
    drawing = scorer.register_forward_pre_hook(lambda module, arguments: (torch.rand(1), None)[1])  # as routers may
    assert leaks.found(scorer, FLAT, CPU) == ""  # with dropout on, nothing would stay the same
    drawing.remove()
    assert torch.equal(before, torch.get_rng_state())
    assert modes == [part.training for part in scorer.modules()] and True in modes and False in modes
    assert all(torch.equal(weights[name], w) and w.grad is None for name, w in trained(loaded.model).items())


def test_the_leak_test_finds_a_leak_and_an_architecture_that_cannot(tiny_base: Path) -> None:
    loaded, scorer, chosen = ready(tiny_base)
    base_of(loaded.model).set_attn_implementation("sdpa")  # which knows nothing of documents in a flat row
    hook = scorer.register_forward_pre_hook(lambda module, arguments: (unmarked(arguments[0]),))
    assert "see each other" in leaks.found(scorer, chosen.layout, CPU)
    hook.remove()

    def fail(module: object, arguments: object) -> None:
        raise NotImplementedError("no packed rows here")

    hook = scorer.register_forward_pre_hook(fail)
    assert leaks.found(scorer, chosen.layout, CPU).endswith("no packed rows here")
    hook.remove()


def unmarked(batch: batches.MicroBatch) -> batches.MicroBatch:
    """A packed row whose positions count through."""
    if batch.positions is None:
        return batch
    return batches.replace(batch, bounds=None, lengths=(), positions=torch.arange(batch.ids.shape[1])[None])


@given(
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=40),
    layout=st.sampled_from([PADDED, ROWS, FLAT, Layout(4, 0, 100, flat=True)]),
    batch=st.integers(1, 12),
)
def test_the_batch_that_is_tried_first_is_as_large_as_any_that_comes_late(
    lengths: list[int], layout: Layout, batch: int
) -> None:
    # torchtune#2078: out of memory after hours
    tokens = ragged(lengths)
    first = next(micro_batches(tokens, costliest(tokens, layout, batch), layout))
    for start in range(0, len(lengths), batch):
        examples = range(start, min(start + batch, len(lengths)))
        for found in micro_batches(tokens, examples, layout):
            if layout == PADDED:
                assert found.ids.numel() <= first.ids.numel() * max(1, 3 // len(first.rows))
            else:  # up to the room that the longest examples leave
                assert found.ids.numel() <= first.ids.numel() + 60


def test_validation_keeps_no_logits_of_the_micro_batches_before(tiny_base: Path) -> None:
    # transformers#12878
    loaded, scorer, chosen = ready(tiny_base)
    alive: list[int] = []
    now = 0

    class Counting(Likelihood):
        def loss(self, scorer: torch.nn.Module, batch: batches.MicroBatch) -> Any:
            nonlocal now
            found = super().loss(scorer, batch)
            assert not found.total.requires_grad
            alive.append(sum(tensor.numel() for tensor in large_tensors()))
            return found

    validate.validation_loss(loaded, scorer, Counting(), ragged([50] * 12), chosen.layout)
    assert len(alive) == 6 and max(alive) <= alive[0]


def large_tensors() -> list[Tensor]:
    """All living tensors as wide as the vocabulary that are no weights."""
    import gc

    kinds = (found for found in gc.get_objects() if type(found) is Tensor)
    return [found for found in kinds if found.ndim > 1 and found.shape[-1] == 512]


def test_a_run_says_that_its_rows_are_not_packed_and_goes_on_padded(bench: Bench, tmp_path: Path) -> None:
    hybrid = make("qwen3_5", tmp_path / "hybrid")
    short = {"training.max_steps": 1, "split.validation": 0}
    run = bench.trained(**{"training.packing": True, "model.base": str(hybrid), **short})
    told = [event.text for event in events.of_kind(bench.ledger, run.id, "packing")]
    assert len(told) == 1 and told[0].startswith("Rows are not packed: its documents see each other")


def test_a_packed_run_ends_where_the_padded_one_ends(bench: Bench) -> None:
    packed = bench.trained("packed", **{"training.packing": True, "training.row_tokens": 128, "method.dropout": 0.0})
    padded = bench.trained("padded", **{"method.dropout": 0.0})
    for key in ("train/loss", "train/tokens", "validation/loss"):
        ours, theirs = bench.story(packed)[key], bench.story(padded)[key]
        assert [step for step, _ in ours] == [step for step, _ in theirs]
        assert [value for _, value in ours] == pytest.approx([value for _, value in theirs], rel=1e-4)
    assert events.of_kind(bench.ledger, packed.id, "packing") == []
