"""What a rank of several holds, simulated by one process alone, against what real ones allocate, phase by phase.

Replicas are two real processes. Of a model in parts one process is looked at whose collectives bring nothing: gloo's threads hold on to what
they sent for as long as they happen to, which NCCL does not.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from engine.fit import setup
from engine.fit.allocator import replay
from engine.fit.predicting import ClosedForm
from engine.fit.question import Machine, Part, Phase, Question, Step
from engine.fit.simulation import ranks as simulated_ranks
from engine.fit.simulation.answer import answer, stream
from engine.train import sharded
from engine.train.model import Loaded
from engine.train.ranks import Ranks, replicated
from engine.train.scorer import Scorer
from tests.engine.fit import real
from tests.engine.train.together import together
from tests.models import make

LORA: Final[dict[str, object]] = {"name": "lora", "rank": 8, "dropout": 0.0}
FULL: Final[dict[str, object]] = {"name": "full"}
ONCE: Final = Step(4, 96, 200, packed=False, checkpointing=False, accumulates=False)
TWICE: Final = replace(ONCE, checkpointing=True, accumulates=True)
CASES: Final = [(LORA, ONCE), (LORA, TWICE), (FULL, ONCE), (FULL, TWICE)]
WITHIN: Final = 0.01
WITHIN_SAVING: Final = 0.02


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("llama"))


def question(base: Path, method: dict[str, object], step: Step, machine: Machine, **model: object) -> Question:
    config = json.loads((base / "config.json").read_text())
    return Question(config, {"dtype": "float32", "quantization": "none", **model}, method, {}, step, machine)


def check(asked: Question, measured: dict[Phase, int]) -> None:
    simulated = answer(asked)
    found = {phase: simulated.phases[phase][0] for phase in Phase}
    off = {phase: found[phase] / measured[phase] - 1 for phase in Phase}
    assert abs(off.pop(Phase.SAVING)) < WITHIN_SAVING, (measured, found)
    assert all(abs(error) < WITHIN for error in off.values()), (off, measured, found)


def test_a_replica_takes_what_one_of_two_real_ranks_takes(tmp_path: Path, llama: Path) -> None:
    asked = [question(llama, method, step, Machine(None, 2, "replicate")) for method, step in CASES]
    for of_rank in together(tmp_path / "ranks", 2, measured_replicas, llama, asked):
        for each, measured in zip(asked, of_rank, strict=True):
            check(each, measured)


def measured_replicas(ranks: Ranks, base: Path, asked: list[Question]) -> list[dict[Phase, int]]:
    """What this rank allocates for each."""
    assert ranks.world == 2
    return [real.peaks(base, each, lambda scorer, loaded: replicated(scorer, loaded.device)) for each in asked]


def test_buckets_of_replicas_are_gradients_in_simulations_and_formulas(llama: Path) -> None:
    asked = replace(
        question(llama, FULL, TWICE, Machine(None, 2, "replicate"), attention="sdpa"), training={"optimizer": "adamw"}
    )
    trained = 4 * setup.of_question(asked).shape.parameters
    assert answer(asked).parts[Part.GRADIENTS] == pytest.approx(2 * trained, rel=WITHIN)
    assert ClosedForm().predict(asked).parts[Part.GRADIENTS] == pytest.approx(2 * trained, rel=WITHIN)


@pytest.mark.parametrize(("method", "step"), CASES, ids=["lora", "lora, twice", "full", "full, twice"])
def test_a_part_takes_what_fsdp_takes_of_real_tensors(llama: Path, method: dict[str, object], step: Step) -> None:
    check_part(llama, question(llama, method, step, Machine(None, 4, "shard")))


def test_a_part_of_4_bit_weights_takes_what_fsdp_takes_of_real_ones(llama: Path) -> None:
    packed = {"quantization": "nf4", "dtype": "bfloat16", "double_quantization": False}
    check_part(llama, question(llama, LORA, ONCE, Machine(None, 4, "shard"), **packed))


def check_part(base: Path, asked: Question) -> None:
    with simulated_ranks.among(asked.machine):
        measured = real.peaks(base, asked, _cut)
    check(asked, measured)


def _cut(scorer: Scorer, loaded: Loaded) -> nn.Module:
    """As `sharded.shard` does it, which would find that what nobody sent is not what packed weights were."""
    layers = sharded.decoder_layers(loaded.model)
    sharded.cut(scorer, layers, init_device_mesh("cpu", (dist.get_world_size(),)))
    for layer in layers:
        with sharded.gathered(layer):
            pass
    return scorer


def test_a_part_is_smaller_the_more_ranks_there_are_and_a_replica_is_not(llama: Path) -> None:
    def allocated(ranks: int, sharding: str) -> int:
        machine = Machine((9, 0), ranks, "shard" if sharding == "shard" else "replicate")
        return answer(question(llama, FULL, ONCE, machine)).allocated

    alone, replica = allocated(1, "replicate"), allocated(2, "replicate")
    assert replica > alone, "gradients stand in buckets too"
    assert replica == allocated(8, "replicate")
    parts = [allocated(ranks, "shard") for ranks in (2, 4, 8)]
    assert parts == sorted(parts, reverse=True) and parts[0] < alone


def test_what_one_cuda_stream_has_freed_is_not_given_to_another(llama: Path) -> None:
    asked = question(llama, FULL, ONCE, Machine((9, 0), 2, "shard"))
    events = stream(asked)
    assert {event.queue for event in events} == {0, 1, 2}, "computing, gathering, and reducing gradients"
    together_ = tuple(event._replace(queue=0) for event in events)
    assert replay(together_).allocated == replay(events).allocated
    assert replay(together_).reserved < replay(events).reserved


def test_the_same_question_has_the_same_answer_when_asked_again(llama: Path) -> None:
    # DTensor remembers the shapes that it has worked out: what it takes for that is no part of a step.
    asked = question(llama, FULL, ONCE, Machine(None, 2, "shard"))
    assert answer(asked) == answer(asked)


def test_weights_that_are_cut_beside_the_gpu_never_are_on_it_whole(llama: Path) -> None:
    whole = answer(question(llama, LORA, ONCE, Machine((8, 0)))).phases[Phase.LOAD][0]
    part = answer(question(llama, LORA, ONCE, Machine((8, 0), 4, "shard"))).phases[Phase.LOAD][0]
    assert part < whole
