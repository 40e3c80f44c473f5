"""The ranks that share a step, of which the simulated process is the first: nobody else is there, and what it sends goes nowhere.

The first rank holds no less than any other: of what does not divide evenly, FSDP gives the first ranks more.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
import torch.distributed as dist
from peft import PeftModel
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed import fake_pg  # importing it makes the backend known
from transformers import PreTrainedModel

from engine.fit.question import Machine, Part, Question
from engine.fit.simulation import loading
from engine.fit.simulation.tracing import Tracer
from engine.train import sharded
from engine.train.ranks import REPLICAS


@contextmanager
def among(machine: Machine) -> Iterator[DeviceMesh | None]:
    """As the first of the machine's ranks; None where it is the only one. To be entered before a tracer: a mesh knows real numbers."""
    if machine.ranks == 1:
        yield None
        return
    dist.init_process_group("fake", store=fake_pg.FakeStore(), rank=0, world_size=machine.ranks)
    try:
        yield init_device_mesh("cpu", (machine.ranks,))
    finally:
        dist.destroy_process_group()


def beside(question: Question) -> bool:
    """Whether weights are loaded beside the GPU and come to it in parts, as `engine.train.job` does it."""
    machine = question.machine
    cut = machine.ranks > 1 and machine.sharding == "shard"
    return cut and machine.capability is not None and question.model["quantization"] == "none"


def spread(
    scorer: nn.Module,
    model: PreTrainedModel | PeftModel,
    question: Question,
    mesh: DeviceMesh | None,
    tracer: Tracer,
) -> nn.Module:
    """The scorer as a rank has it, as `engine.train.ranks.replicated` and `engine.train.sharded.shard` make it.

    Before the tracer follows the layers: what is gathered for one is its.
    """
    if mesh is None:
        return scorer
    if question.machine.sharding == "replicate":
        return _replicated(scorer, tracer)
    layers = sharded.decoder_layers(model)
    move = _moved if beside(question) else _left
    with mock.patch("torch.distributed.fsdp._fully_shard._fsdp_init._move_states_to_device", move):
        sharded.cut(scorer, layers, mesh)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    tracer.mark(Part.WEIGHTS, model.parameters())
    if isinstance(model, PeftModel):
        tracer.mark(Part.ADAPTER, trained)
    for index, layer in enumerate(layers):
        with sharded.gathered(layer):
            loading.read_again(layer)
            tracer.own(index, layer.parameters())
    return scorer


def _moved(parameters: list[nn.Parameter], buffers: list[Tensor], _: torch.device) -> None:
    """A whole layer goes to the GPU, and is cut there."""
    for tensor in (*parameters, *buffers):
        tensor.data = torch.empty_like(tensor)


def _left(parameters: list[nn.Parameter], buffers: list[Tensor], _: torch.device) -> None:
    """It is there."""


def _replicated(scorer: nn.Module, tracer: Tracer) -> DistributedDataParallel:
    """Built and synchronised by PyTorch's own code; only what compares the ranks' shapes, whose values nobody has, is left out."""
    with (
        mock.patch("torch.nn.parallel.distributed._verify_param_shape_across_processes"),
        warnings.catch_warnings(action="ignore"),  # of what accelerate tells it
    ):
        wrapped = DistributedDataParallel(scorer, **REPLICAS)
    wrapped.register_comm_hook(tracer, _sent)  # it would reduce a bucket in place
    return wrapped


def _sent(tracer: Tracer, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """Buckets stay from step to step, beside the gradients that are copied into them."""
    tracer.mark(Part.GRADIENTS, [bucket.buffer()])
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done
