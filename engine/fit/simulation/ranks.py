"""The ranks that share a step, of which the simulated process is the first: nobody else is there, and what it sends goes nowhere.

The first rank holds no less than any other: of what does not divide evenly, FSDP gives the first ranks more.
"""

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

from engine.fit.question import Machine
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


def spread(
    scorer: nn.Module, model: PreTrainedModel | PeftModel, machine: Machine, mesh: DeviceMesh | None
) -> nn.Module:
    """The scorer as a rank has it, as `engine.train.ranks.replicated` and `engine.train.sharded.shard` make it."""
    if mesh is None:
        return scorer
    if machine.sharding == "replicate":
        return _replicated(scorer)
    layers = sharded.decoder_layers(model)
    sharded.cut(scorer, layers, mesh)
    for layer in layers:
        with sharded.gathered(layer):
            pass
    return scorer


def _replicated(scorer: nn.Module) -> DistributedDataParallel:
    """Built and synchronised by PyTorch's own code; only what compares the ranks' shapes, whose values nobody has, is left out."""
    with mock.patch("torch.nn.parallel.distributed._verify_param_shape_across_processes"):
        wrapped = DistributedDataParallel(scorer, **REPLICAS)
    wrapped.register_comm_hook(None, _sent)  # it would reduce a bucket in place
    return wrapped


def _sent(_: object, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done
