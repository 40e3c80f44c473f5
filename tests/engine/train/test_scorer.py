"""The head and attention: what is never computed, and that what is left is what the model itself says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, CohereConfig, GraniteConfig, PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from engine.train import attention, leaks, model, scorer
from engine.train.batches import Layout, MicroBatch, micro_batches
from engine.train.checkpoint import trained
from engine.train.objective import Likelihood
from engine.train.scorer import Scorer
from tests.engine.train.test_batches import ragged
from tests.engine.train.test_packing import FLAT, LENGTHS, PADDED, ROWS, ready
from tests.models import make
from tests.tiny import tiny_profile

pytestmark = pytest.mark.usefixtures("settled")
CPU = torch.device("cpu")


def all_of(asked: Scorer, layout: Layout) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores and gradients of all micro-batches, one after the other."""
    asked.zero_grad(set_to_none=True)
    scores = []
    for batch in micro_batches(ragged(LENGTHS), range(len(LENGTHS)), layout):
        found: Tensor = asked(batch)
        assert found.dtype == torch.float32 and found.shape == batch.targets.shape
        found.sum().backward()  # type: ignore[no-untyped-call]
        scores.append(found.detach())
    return torch.cat(scores), {
        name: weight.grad.clone() for name, weight in trained(asked.model).items() if weight.grad is not None
    }


HEADS: dict[str, dict[str, object]] = {
    "frozen": {},
    "trained": {"method.name": "full"},
    "trained beside 16 bits": {"method.name": "full", "model.dtype": "bfloat16"},
    "adapted": {"method.targets": ("q_proj", "lm_head")},
    "saved whole": {"method.modules_to_save": ("lm_head",)},
    "of a 4-bit base": {"model.quantization": "nf4", "model.dtype": "bfloat16"},
}


@pytest.mark.parametrize("changes", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("layout", [PADDED, ROWS, FLAT], ids=["padded", "rows", "flat"])
def test_the_head_applied_here_in_parts_gives_what_the_model_s_own_gives(
    tiny_base: Path, changes: dict[str, object], layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked, _ = ready(tiny_base, **changes)
    assert not asked.own_head
    rounding = 0.02 if changes.get("model.dtype") == "bfloat16" else 1e-5
    whole, whole_gradients = all_of(asked, layout)
    asked.own_head = True
    own, own_gradients = all_of(asked, layout)
    asked.own_head = False
    monkeypatch.setattr(scorer, "LOGITS_AT_ONCE", 7 * 512)  # seven tokens at a time
    parts, part_gradients = all_of(asked, layout)
    assert any("lm_head" in name for name in own_gradients) == (layout is not None and _trains_head(changes))
    for found, gradients in ((own, own_gradients), (parts, part_gradients)):
        torch.testing.assert_close(found, whole, rtol=rounding, atol=rounding)
        assert gradients.keys() == whole_gradients.keys()
        largest = max(float(gradient.abs().max()) for gradient in whole_gradients.values())
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, whole_gradients[name], rtol=0, atol=max(rounding, 1e-5) * largest)


# Measured: torch's `linear_cross_entropy` sums bfloat16 losses in bfloat16, which was 1.5 % off. The engine does not use it.
def test_losses_of_a_bfloat16_model_are_summed_in_float32_and_are_the_model_s_own(tiny_base: Path) -> None:
    loaded, asked, _ = ready(tiny_base, **{"model.dtype": "bfloat16"})
    tokens = ragged([400])
    (batch,) = micro_batches(tokens, [0], Layout(1, pad_id=0))
    labels = torch.where(torch.tensor(tokens.supervised), torch.tensor(tokens.ids, dtype=torch.long), -100)[None]
    with torch.no_grad():
        asked.eval()
        count = Likelihood().count(tokens, [0])
        own = count * float(loaded.model(input_ids=batch.ids, labels=labels, use_cache=False).loss)
        for own_head in (True, False):
            asked.own_head = own_head
            total = Likelihood().loss(asked, batch).total
            assert total.dtype == torch.float32 and float(total) == pytest.approx(own, rel=2e-5)
            rounded = float(asked(batch).bfloat16().sum())
            assert rounded != pytest.approx(own, rel=2e-4)  # what would happen


def _trains_head(changes: dict[str, object]) -> bool:
    return changes in (HEADS["trained"], HEADS["trained beside 16 bits"], HEADS["adapted"], HEADS["saved whole"])


class Widest(TorchDispatchMode):
    """The most logits - values as wide as the vocabulary - that any operation gave, but for weights."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.ndim > 1 and found.shape[-1] == 512 and found.shape[-2] != 64:
            self.logits = max(self.logits, found.numel())
        return found


def test_logits_of_many_tokens_are_never_in_memory_together(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, asked, _ = ready(tiny_base)
    monkeypatch.setattr(scorer, "LOGITS_AT_ONCE", 7 * 512)
    for layout in (PADDED, ROWS, FLAT):
        with Widest() as seen:
            all_of(asked, layout)
        assert 0 < seen.logits <= 7 * 512


@pytest.mark.parametrize(
    "config", [CohereConfig(logit_scale=0.25), GraniteConfig(logits_scaling=4.0)], ids=["cohere", "granite"]
)
def test_a_model_that_scales_its_logits_computes_them_itself(config: PreTrainedConfig) -> None:
    small = {"vocab_size": 512, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config.update({**small, "num_attention_heads": 2, "num_key_value_heads": 2, "pad_token_id": 0})
    asked = Scorer(AutoModelForCausalLM.from_config(config), None)
    assert not leaks.agree_on_the_head(asked, CPU, 0)
    assert asked.own_head and asked.training


def test_a_model_that_caps_its_logits_computes_them_itself_and_says_so(tmp_path: Path) -> None:
    _, asked, chosen = ready(make("gemma4", tmp_path))
    assert asked.own_head and chosen.layout == FLAT
    assert "computes its logits itself" in chosen.refused[0]


def test_the_scorer_runs_on_fake_tensors_as_a_simulation_needs(tiny_base: Path) -> None:
    _, asked, _ = ready(tiny_base)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        for layout in (FLAT, ROWS, PADDED):
            for batch in micro_batches(ragged(LENGTHS), range(len(LENGTHS)), layout):
                faked = MicroBatch(
                    **{
                        name: fake.from_tensor(value) if isinstance(value, Tensor) else value
                        for name, value in vars(batch).items()
                    }
                )
                found = asked(faked)
                assert found.shape == batch.targets.shape
                found.sum().backward()


def states(heads: int, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(1, heads, length, 16, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("window", [None, 8], ids=["full", "sliding"])
@pytest.mark.parametrize("key_heads", [4, 2], ids=["all-heads", "grouped"])
def test_attention_inside_documents_is_sdpa_on_each_alone(
    dtype: torch.dtype, window: int | None, key_heads: int
) -> None:
    lengths = (21, 5, 1, 14)
    query, key, value = (states(heads, 41, dtype) for heads in (4, key_heads, key_heads))
    module = nn.Module()
    module.num_key_value_groups = 4 // key_heads  # type: ignore[assignment]
    weight = torch.randn(1, 41, 4, 16, dtype=dtype)
    found, _ = attention.attend(module, query, key, value, None, documents=lengths, sliding_window=window, scaling=0.3)
    ours = torch.autograd.grad((found * weight).sum(), (query, key, value))
    alone, start = [], 0
    for length in lengths:
        inside = slice(start, start := start + length)
        places = torch.arange(length)
        back = places[:, None] - places
        # None as long as nothing is out of the window's sight, as transformers' own masks do
        seen = None if window is None or length <= window else ((back >= 0) & (back < window))[None, None]
        alone.append(
            sdpa_attention_forward(
                module, query[:, :, inside], key[:, :, inside], value[:, :, inside], seen, scaling=0.3
            )[0]
        )
    expected = torch.cat(alone, 1)
    assert torch.equal(found, expected)
    theirs = torch.autograd.grad((expected * weight).sum(), (query, key, value))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-6 if dtype == torch.float32 else 0.05)


def test_a_window_is_the_model_s_own(tmp_path: Path) -> None:
    """Documents longer than the tiny models' window of 16, against transformers' own mask."""
    _, asked, _ = ready(make("mistral", tmp_path))
    asked.eval()
    tokens = ragged([60])
    with torch.no_grad():
        flat, padded = (asked(next(micro_batches(tokens, [0], layout))) for layout in (FLAT, PADDED))
    torch.testing.assert_close(flat, padded, rtol=0, atol=2e-6)


def test_what_attention_inside_documents_cannot_do_is_refused_not_left_out() -> None:
    query = states(4, 8)
    for asked in ({"s_aux": torch.zeros(4)}, {"softcap": 50.0}):
        with pytest.raises(ValueError, match="sinks"):
            attention.attend(nn.Module(), query, query, query, None, documents=(8,), **asked)


def test_a_gpu_gets_all_documents_in_one_call_that_sees_causally_and_as_far_as_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel itself needs a GPU; here its own shape function runs, and what it is asked for is looked at."""
    asked: list[dict[str, Any]] = []

    def watched(*arguments: Any, **named: Any) -> Any:
        asked.append({**named, "longest": arguments[5], "shapes": [tuple(given.shape) for given in arguments[:3]]})
        return varlen(*arguments, **named)

    varlen = attention.varlen_attn
    monkeypatch.setattr(attention, "varlen_attn", watched)
    query, key = torch.empty(1, 4, 41, 16, device="meta"), torch.empty(1, 2, 41, 16, device="meta")
    bounds = torch.tensor([0, 21, 41], dtype=torch.int32, device="meta")
    told = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": 21, "max_length_k": 21, "scaling": 0.3}
    for window in (None, 8, 21):
        found = attention.on_gpu(nn.Module(), query, key, key, {**told, "window": window})
        assert found.shape == (1, 41, 4, 16)
    assert [found["window_size"] for found in asked] == [(-1, 0), (7, 0), (-1, 0)]
    assert all(found["enable_gqa"] and found["scale"] == 0.3 and found["longest"] == 21 for found in asked)
    assert asked[0]["shapes"] == [(41, 4, 16), (41, 2, 16), (41, 2, 16)]


def test_generation_and_padded_rows_keep_transformers_own_attention(tiny_base: Path) -> None:
    loaded, asked, chosen = ready(tiny_base)
    assert chosen.layout.flat
    plain = model.load(tiny_profile(tiny_base, Path("rows"), **{"method.dropout": 0.0}), CPU, vocabulary=400)
    for name, weight in trained(plain.model).items():
        weight.data.copy_(trained(loaded.model)[name])
    ids = torch.tensor([[3, 3, 40, 50, 60], [70, 80, 90, 100, 110]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    how = SimpleNamespace(input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0)
    ours, theirs = (found.model.eval().generate(**vars(how)) for found in (loaded, plain))
    assert torch.equal(ours, theirs)
    batch = next(micro_batches(ragged(LENGTHS), range(3), PADDED))
    assert torch.equal(asked(batch), Scorer(plain.model, None)(batch))
