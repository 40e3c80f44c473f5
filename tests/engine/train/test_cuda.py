"""What only runs on a GPU, as far as it can be seen without one: torch's meta device stands for it, which computes shapes, types and places."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import accelerate.utils  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from torch import nn

from engine.train import anatomy, attention, checkpoint, device, model, optimizer, ranks, scorer, step
from engine.train.attention import use_documents
from engine.train.batches import Layout, micro_batches
from engine.train.checkpoint import Progress
from engine.train.objective import Dpo, Likelihood, Objective
from engine.train.ranks import Ranks
from engine.train.scorer import Scorer, base_of
from tests.engine.train.test_batches import ragged
from tests.engine.train.test_objectives import paired
from tests.tiny import tiny_profile

CPU, META = torch.device("cpu"), torch.device("meta")
FLAT = Layout(2, pad_id=0, row_tokens=64, flat=True)


@pytest.mark.parametrize("own_head", [True, False], ids=["model's head", "head here"])
@pytest.mark.parametrize("objective", [Likelihood(), Dpo(0.1, False, np.zeros(8, np.float32))], ids=["sft", "dpo"])
def test_nothing_of_a_flat_step_stays_on_the_cpu(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, objective: Objective, own_head: bool
) -> None:
    """Operations on tensors of two devices are refused; nor may a step look at values, for which a GPU would be waited for."""
    asked = {"model.dtype": "bfloat16", "training.checkpoint_activations": True}
    loaded = model.load(tiny_profile(tiny_base, Path("rows"), **asked), CPU, vocabulary=400)
    assert use_documents(base_of(loaded.model))
    nn.Module.to(loaded.model, META)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which has no meta device
    monkeypatch.setattr(scorer, "LOGITS_AT_ONCE", 5 * 400)
    asking = Scorer(loaded.model, None)
    asking.own_head = own_head
    tokens = (paired if isinstance(objective, Dpo) else ragged)([40, 23, 12, 30])
    for batch in micro_batches(tokens, range(tokens.examples), FLAT):
        there = batch.to(META)
        assert all(value.device == META for value in vars(there).values() if isinstance(value, torch.Tensor))
        loss = step.forward_backward(objective, asking, there, 3)
        assert loss.total.device == META and loss.total.dtype == torch.float32
    weights = list(checkpoint.trained(loaded.model).values())
    assert weights and all(weight.grad is not None and weight.grad.device == META for weight in weights)
    assert step.clip(weights, 1.0).device == META


def test_autocast_reaches_the_gpu_s_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained as a whole a model is float32, and rotating turns 16-bit queries to that; the kernel takes 16 bits only."""
    taken: list[torch.dtype] = []

    def watched(*arguments: torch.Tensor, **_: object) -> torch.Tensor:
        taken.extend(given.dtype for given in arguments[:3])
        return arguments[0]

    monkeypatch.setattr(attention, "varlen_attn", watched)
    query, value = torch.empty(1, 4, 41, 16, device=META), torch.empty(1, 4, 41, 16, device=META, dtype=torch.bfloat16)
    bounds = torch.empty(3, dtype=torch.int32, device=META)
    told: dict[str, Any] = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": 21, "max_length_k": 21}
    for enabled in (True, False):
        torch.set_autocast_enabled("cuda", enabled)
        torch.set_autocast_dtype("cuda", torch.bfloat16)
        try:
            attention.attend(nn.Module(), query, query, value, None, documents=(21, 20), **told)
        finally:
            torch.set_autocast_enabled("cuda", False)
    assert taken == [torch.bfloat16] * 3 + [torch.float32, torch.float32, torch.bfloat16]


def test_sixteen_bit_copies_of_trained_weights_do_not_pile_up(tiny_base: Path) -> None:
    asked = {"model.dtype": "bfloat16", "method.name": "full"}
    loaded = model.load(tiny_profile(tiny_base, Path("rows"), **asked), CPU, vocabulary=400)
    cached: list[bool] = []

    def look(*_: object) -> None:
        cached.append(torch.is_autocast_enabled("cpu") and torch.is_autocast_cache_enabled())

    base_of(loaded.model).get_decoder().register_forward_hook(look)  # type: ignore[no-untyped-call]
    (batch,) = micro_batches(ragged([9]), [0], Layout(1, pad_id=0))
    Scorer(loaded.model, loaded.autocast)(batch)
    assert loaded.autocast == torch.bfloat16 and cached == [False]


def test_only_the_rank_that_writes_holds_a_whole_checkpoint_in_memory(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tiny_profile(tiny_base, Path("rows"))
    loaded = model.load(profile, CPU, vocabulary=400)
    making = optimizer.make(loaded.model, profile.training, CPU)
    for weight in checkpoint.trained(loaded.model).values():
        weight.grad = torch.ones_like(weight)
    making.step()
    assert optimizer.state(making, keep=False) == ({}, {}) and optimizer.state(making)[0]
    kept: list[bool] = []

    def nothing(_: object, *, keep: bool) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        kept.append(keep)
        return {}, {}

    monkeypatch.setattr(optimizer, "state", nothing)
    for rank in (1, 0):
        checkpoint.save(
            tmp_path, loaded.model, making, Progress(), before_rename=lambda: None, ranks=Ranks(rank, world=1)
        )
        assert any(tmp_path.iterdir()) == (rank == 0)
    assert kept == [False, True]


# Two RTX 4090 with the driver of Debian 12 (535): accelerate ends the run at once, and without it NCCL hangs.
def test_cards_that_cannot_reach_each_other_s_memory_are_not_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"):
        monkeypatch.setenv(name, "")  # put back at the end
        monkeypatch.delenv(name)
    for works in (True, False):
        monkeypatch.setattr(accelerate.utils, "check_cuda_p2p_ib_support", lambda works=works: works)
        ranks._go_round_what_cards_lack()
        assert (os.environ.get("NCCL_P2P_DISABLE") == os.environ.get("NCCL_IB_DISABLE") == "1") is not works


def test_float32_adapters_stay_on_the_tensor_cores_of_a_gpu_and_exact_runs_are_exact(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        device.set_up(torch.device("cuda", 0), seed=3, deterministic=True, thread_count=1)
        assert torch.get_float32_matmul_precision() == "high"
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(False)


def test_packed_weights_that_were_cut_count_as_what_they_stand_for() -> None:
    packed = nn.Parameter(torch.zeros(50, 1, dtype=torch.uint8), requires_grad=False)
    assert anatomy.size_of(packed) == 100
    assert anatomy.size_of(nn.Parameter(torch.zeros(50, 2))) == 100
