"""A model that is too large for one GPU, cut into parts that the ranks hold (FSDP2): each parameter is a DTensor of which a rank has its share.

Not through accelerate: on a CPU it leaves its FSDP settings aside and replicates without a word (accelerate#3983 tells of more of the kind).
Here every parameter is looked at afterwards. `whole` and `part` are how checkpoints and results see full tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from engine.errors import Problem
from engine.profile import Hardware
from engine.train.ranks import Ranks


def wanted(hardware: Hardware, ranks: Ranks) -> bool:
    """Whether each of the ranks is to hold a part of the model only."""
    return ranks.world > 1 and hardware.sharding == "shard"


def shard(scorer: nn.Module, model: PreTrainedModel | PeftModel, device: torch.device, world: int) -> None:
    """Cut the scorer's parameters between `world` ranks, layer by layer, and bring each rank's share to `device`.

    The weights may be on the CPU before: then no GPU ever holds more than its share and one layer. To be done before the optimizer is
    made, for the parameters are others afterwards.

    Raises:
        Problem: a parameter was not cut, or packed weights do not come back as they were.
    """
    layers = decoder_layers(model)
    before = [_packed_bytes(layer) for layer in layers]
    cut(scorer, layers, init_device_mesh(device.type, (world,)))
    for layer, stood in zip(layers, before, strict=True):
        with gathered(layer):
            _check(layer, stood)


def cut(scorer: nn.Module, layers: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Leave each rank of the mesh its share of each layer's parameters and of those that are outside of them.

    Raises:
        Problem: a parameter was not cut.
    """
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    # By itself the outermost part would stay gathered after a forward pass without gradients: whoever then asked for the parameters - the
    # optimizer, a checkpoint - would be given tensors that nobody trains.
    fully_shard(scorer, mesh=mesh, reshard_after_forward=True)
    left = [name for name, parameter in scorer.named_parameters() if not isinstance(parameter, DTensor)]
    if left:
        raise _not_cut(f"{len(left)} of its parameters, such as {left[0]}, are not DTensors.")


def _packed_bytes(layer: nn.Module) -> dict[str, str]:
    """Hashes of a layer's packed 4-bit weights by name."""
    found = {}
    for name, module in layer.named_modules():
        if (
            "weight" in module._parameters and type(module).__name__ == "Linear4bit"
        ):  # not PEFT's around it, of the same name
            weight = module.get_parameter("weight").detach()
            copied = weight.to("cpu", copy=True).contiguous()  # NumPy would hold on to memory that FSDP wants to free
            found[name] = hashlib.sha256(copied.view(torch.uint8).numpy()).hexdigest()
    return found


def _check(layer: nn.Module, stood: dict[str, str]) -> None:
    """Look at a layer that is gathered: once, now, for whether a gathered weight learns is settled then, and a reference may be scored with
    the adapter off.

    Packed weights are bits that no arithmetic may touch: see that they come back from all ranks as they were.
    FSDP has lost how they are to be read, and changed bits that look like a NaN where they were stored as floats (accelerate#3983,
    bitsandbytes#1945); losses are then wrong and nothing says so.
    """
    found = _packed_bytes(layer)
    unread = [name for name in stood if getattr(layer.get_submodule(name), "quant_state", None) is None]
    wrong = [name for name, digest in stood.items() if found.get(name) != digest] + unread
    if wrong:
        raise _not_cut(f"The packed weights of {wrong[0]} do not come back from the GPUs as they were.")


def _not_cut(why: str) -> Problem:
    return Problem(
        "The model could not be cut between the GPUs",
        why,
        "Set hardware.sharding = replicate, or train on one GPU.",
        code="sharding",
    )


def decoder_layers(model: PreTrainedModel | PeftModel) -> list[nn.Module]:
    """The blocks that transformers says must not be split, innermost last."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    kinds = set(getattr(base, "_no_split_modules", None) or ())
    return [module for module in base.modules() if type(module).__name__ in kinds]


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """A layer stands whole meanwhile; of the scorer what is outside of its layers, as in a forward pass: for calls of the model inside."""
    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor. Every rank has to ask for it where it is cut."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(found: Tensor, like: Tensor) -> Tensor:
    """This rank's share of a whole tensor that every rank has, cut and placed as `like`."""
    if not isinstance(like, DTensor):
        return found.to(like.device)
    there = found.to(like.device_mesh.device_type)
    return distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None)
