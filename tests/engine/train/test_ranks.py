"""Several ranks mean what one means: the same losses and weights, whether each has the model or a part of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.distributed import fsdp
from torch.distributed.tensor import DTensor

from engine.errors import Problem
from engine.ledger.states import State
from engine.train import device, model, sharded, step
from engine.train import optimizer as optimizers
from engine.train.batches import Layout
from engine.train.checkpoint import trained
from engine.train.objective import Likelihood
from engine.train.ranks import ALONE, Ranks, apart, replicated
from engine.train.scorer import Scorer
from tests.engine.train.conftest import Bench, result_bytes
from tests.engine.train.test_batches import ragged
from tests.engine.train.test_reference import preferring
from tests.engine.train.together import together, train
from tests.tiny import tiny_profile

PADDED = Layout(2, pad_id=0)
CPU = torch.device("cpu")
LENGTHS = [5, 40, 11, 90, 23, 7, 64, 12, 33]
BATCHES = [range(9), range(1), range(3, 8)]  # the second has nothing for a second rank


@dataclass(frozen=True)
class Case:
    """A model and how its steps are run."""

    how: Literal["replicate", "shard"]
    layout: Layout
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """Loss and gradient norm of each step, and the weights behind them."""

    told: list[tuple[float, float]]
    weights: dict[str, NDArray[np.float32]]


def steps(ranks: Ranks, base: Path, case: Case) -> Trained:
    """A few optimizer steps over ragged rows, as the loop does them."""
    device.set_up(CPU, seed=3, deterministic=True, thread_count=1)
    profile = tiny_profile(base, Path("rows"), **{"method.dropout": 0.0, **case.settings})
    loaded = model.load(profile, CPU, vocabulary=400)
    with torch.no_grad():  # an adapter starts as nothing; give it something to differentiate
        for weight in trained(loaded.model).values():
            weight.add_(0.02 * torch.randn_like(weight))
    scorer: torch.nn.Module = Scorer(loaded.model, loaded.autocast)
    if ranks.world > 1 and case.how == "replicate":
        scorer = replicated(scorer, CPU)
    elif ranks.world > 1:
        sharded.shard(scorer, loaded.model, CPU, ranks.world)
        assert all(isinstance(parameter, DTensor) for parameter in scorer.parameters())
    weights = list(trained(loaded.model).values())
    optimizer = optimizers.make(loaded.model, profile.training, CPU)
    tokens, objective, told = ragged(LENGTHS), Likelihood(), []
    for examples in BATCHES:
        count = objective.count(tokens, examples)
        total = 0.0
        for piece in ranks.pieces(tokens, examples, case.layout, equally=case.how == "shard"):
            with apart(scorer, last=piece.last):
                divisor = count / ranks.world if piece.counts else math.inf
                total += float(step.forward_backward(objective, scorer, piece.batch, divisor).total)
        norm = sharded.whole(step.clip(weights, 1.0))
        step.update(optimizer)
        told.append((ranks.summed({"loss": total})["loss"] / ranks.world, float(norm)))
    return Trained(
        told,
        {name: sharded.whole(weight.detach()).float().numpy().copy() for name, weight in trained(loaded.model).items()},
    )


def both(ranks: Ranks, base: Path, cases: list[Case]) -> list[tuple[Trained, Trained]]:
    """Each case on one rank and on all."""
    return [(steps(ALONE, base, case), steps(ranks, base, case)) for case in cases]


def check_same(found: list[list[tuple[Trained, Trained]]], *, rtol: float = 1e-6) -> None:
    """That all ranks end with the same, and with what one rank ends with."""
    for of_ranks in zip(*found, strict=True):
        first = of_ranks[0][1]
        for _, other in of_ranks:
            assert other.told == first.told
            assert all((other.weights[name] == first.weights[name]).all() for name in first.weights)
        one = of_ranks[0][0]
        np.testing.assert_allclose(first.told, one.told, rtol=rtol)
        for name, weight in one.weights.items():
            np.testing.assert_allclose(first.weights[name], weight, atol=5e-6, err_msg=name)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=30), st.integers(1, 5), st.sampled_from([1, 2]), st.randoms())
def test_ranks_share_all_examples_about_equally(lengths: list[int], world: int, per_example: int, draw: Any) -> None:
    lengths = [length for length in lengths for _ in range(per_example)]
    tokens = replace(ragged(lengths), per_example=per_example)
    examples = draw.sample(range(tokens.examples), draw.randint(1, tokens.examples))
    shares = [Ranks(rank, world).share(tokens, examples).tolist() for rank in range(world)]
    assert sorted(example for share in shares for example in share) == sorted(examples)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    sizes = [sum(lengths[example * per_example] * per_example for example in share) for share in shares]
    assert max(sizes) - min(sizes) <= max(lengths) * per_example


# transformers#34191, #35203, #37766, #37474
def test_accumulation_on_two_ranks_equals_one_large_batch_on_ragged_lengths(tmp_path: Path, tiny_base: Path) -> None:
    cases = [
        Case("replicate", PADDED),
        Case("replicate", Layout(1, pad_id=0, row_tokens=128)),
        Case("replicate", Layout(3, pad_id=0), {"method.name": "full"}),
    ]
    check_same(together(tmp_path / "ranks", 2, both, tiny_base, cases))


# accelerate ignores its FSDP plugin on a CPU and replicates without a word
def test_a_sharded_model_really_is_in_parts_and_learns_as_on_one_rank(tmp_path: Path, tiny_base: Path) -> None:
    cases = [
        Case("shard", PADDED, {"training.checkpoint_activations": True}),
        Case("shard", Layout(1, pad_id=0, row_tokens=128), {"method.name": "full"}),
    ]
    check_same(together(tmp_path / "ranks", 2, both, tiny_base, cases))


def test_bfloat16_bases_with_float32_adapters_are_cut_together(tmp_path: Path, tiny_base: Path) -> None:
    # Against replicas: rounding to 16 bits depends on what shares a batch, which one rank has otherwise than two.
    half = {"model.dtype": "bfloat16"}
    cut, copied = zip(*together(tmp_path / "ranks", 2, cut_and_copied, tiny_base, half), strict=True)
    for one, other in zip(cut, copied, strict=True):
        np.testing.assert_allclose(one.told, other.told, rtol=1e-6)
        assert {weight.dtype for weight in one.weights.values()} == {np.dtype(np.float32)}


def cut_and_copied(ranks: Ranks, base: Path, settings: dict[str, Any]) -> tuple[Trained, Trained]:
    """The same model cut between the ranks and copied to each."""
    return steps(ranks, base, Case("shard", PADDED, settings)), steps(ranks, base, Case("replicate", PADDED, settings))


# accelerate#3983, bitsandbytes#1945; accelerate leaves 4-bit parameters whole: `steps` sees that each is cut
def test_qlora_in_parts_is_not_corrupted_silently(tmp_path: Path, tiny_base: Path) -> None:
    double = {"model.quantization": "nf4", "model.double_quantization": True}
    check_same(together(tmp_path / "ranks", 2, both, tiny_base, [Case("shard", PADDED, double)]))
    told = together(tmp_path / "ranks", 2, corrupted, tiny_base, double)
    assert all("do not come back" in words for words in told)


def corrupted(ranks: Ranks, base: Path, settings: dict[str, Any]) -> str:
    """What is said where cutting changes a bit of the packed weights, as it did."""
    loaded = model.load(tiny_profile(base, Path("rows"), **settings), CPU, vocabulary=400)
    cut = fsdp.fully_shard

    def careless(module: torch.nn.Module, **how: Any) -> Any:
        for name, weight in module.named_parameters():
            if "q_proj.base_layer" in name and not isinstance(weight, DTensor):
                weight.data[0] ^= 1
        return cut(module, **how)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Problem) as caught:
        patch.setattr(sharded, "fully_shard", careless)
        sharded.shard(Scorer(loaded.model, None), loaded.model, CPU, ranks.world)
    return str(caught.value)


RANKS: dict[str, object] = {
    "hardware.ranks": 2,
    "training.micro_batch": 1,
    "training.evaluate_every": 3,
    "training.save_every": 4,
}


@pytest.mark.parametrize(
    "settings",
    [
        {"method.dropout": 0.2, "training.packing": True, "training.row_tokens": 128},
        {"hardware.sharding": "shard", "method.name": "full", "training.checkpoint_activations": True},
    ],
    ids=["replicate", "shard"],
)
def test_two_ranks_killed_and_resumed_end_bit_identical_to_two_that_were_not(
    bench: Bench, settings: dict[str, object]
) -> None:
    orders = {2: ["rate 0.5", "evaluate"], 7: ["checkpoint"]}
    whole = bench.run(bench.profile(**RANKS, **settings), "whole")
    ended = train(bench, whole, prepare={0: bench.at_step(whole, orders)})
    assert ended.state is State.FINISHED, ended.message
    run = bench.run(bench.profile(**RANKS, **settings), "killed")
    killed = train(bench, run, prepare={0: bench.at_step(run, orders), 1: bench.at_step(run, {6: "SIGKILL"})})
    assert (killed.state, killed.cause) == (State.FAILED, "rank 1"), killed.message
    assert "SIGKILL" in killed.message
    resumed = train(bench, run, prepare={0: bench.at_step(run, {3: "checkpoint"})})
    assert resumed.state is State.FINISHED, resumed.message
    assert bench.story(run) == bench.story(whole) and len(bench.story(run)["train/loss"]) == 12
    assert result_bytes(run) == result_bytes(whole) and result_bytes(run)
    if "hardware.sharding" in settings:  # without dropout, which draws other numbers on each rank
        one = bench.run(bench.profile(**{**RANKS, **settings, "hardware.ranks": 1}), "one")
        bench.train(one, prepare=bench.at_step(one, orders))
        for key in ("train/loss", "train/grad_norm", "validation/loss"):
            np.testing.assert_allclose(bench.story(run)[key], bench.story(one)[key], rtol=1e-5, err_msg=key)
    states = load_file(run.folder / "checkpoints" / "step-000012" / "generators.safetensors")
    assert not torch.equal(states["cpu"], states["1.cpu"])


def test_preferences_are_learned_in_parts_as_on_one_rank(bench: Bench) -> None:
    settings: dict[str, object] = {"method.dropout": 0.0, "training.max_steps": 3}
    two = bench.run(preferring(bench, **{**RANKS, **settings, "hardware.sharding": "shard"}), "two")
    ended = train(bench, two)
    assert ended.state is State.FINISHED, ended.message
    one = bench.run(preferring(bench, **{**RANKS, **settings, "hardware.ranks": 1}), "one")
    assert bench.train(one).state is State.FINISHED
    for key in ("train/loss", "train/grad_norm", "validation/loss"):
        np.testing.assert_allclose(bench.story(two)[key], bench.story(one)[key], rtol=1e-4, err_msg=key)
