"""The optimizers, by the name that a profile gives them, and their state as tensors and numbers that safetensors and JSON can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from engine import compatible
from engine.profile import Training
from engine.train.anatomy import kind_of
from engine.train.sharded import part, whole

Number = int | float


def make(model: nn.Module, training: Training, device: torch.device) -> torch.optim.Optimizer:
    """The profile's optimizer over the trainable weights; what `decays` says no to is not decayed.

    Raises:
        Problem: paged states are asked for where there is no CUDA.
    """
    compatible.check_optimizer(training, device.type)
    shrink = decays(model)
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in trainable if shrink[name]], "weight_decay": training.weight_decay},
        {"params": [p for name, p in trainable if not shrink[name]], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match training.optimizer:
        case "adamw":
            # Fused: a fifth of the time on small adapters, and it allocates nothing between the first weight that it moves and the last.
            return torch.optim.AdamW(groups, lr=training.learning_rate, fused=True)
        case "adafactor":
            from transformers.optimization import Adafactor

            # The profile's rate is meant: no scaling by the weights' size, which would freeze adapters that start at zero.
            return Adafactor(  # type: ignore[no-untyped-call]
                groups, lr=training.learning_rate, scale_parameter=False, relative_step=False
            )
        case "adamw_8bit":
            from bitsandbytes.optim.adamw import AdamW8bit

            return AdamW8bit(groups, lr=training.learning_rate)
        case "paged_adamw_8bit":
            from bitsandbytes.optim.adamw import PagedAdamW8bit

            return PagedAdamW8bit(groups, lr=training.learning_rate)


def decays(model: nn.Module) -> dict[str, bool]:
    """By name, whether a trainable parameter is pulled towards zero: matrices and what adds matrices, where zero means "no effect".

    Not vectors - norms, biases, DoRA's magnitudes - nor IA3's scales, which PEFT keeps as matrices of one row: there one means "no effect".
    Not embeddings either, of tokens or virtual ones: a token's row shrinks at every step and has a gradient only where the token occurs, and
    small embeddings make large gradients (OLMo 2, arXiv:2501.00656, leaves them out for that). An embedding that is the head too
    counts as an embedding.
    """
    embeddings = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    }
    return {
        name: parameter.ndim >= 2
        and id(parameter) not in embeddings
        and ".ia3_l." not in name
        and kind_of(name) != "biases"
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next update, for all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _parameters(optimizer: torch.optim.Optimizer) -> Iterable[tuple[int, int, int, nn.Parameter]]:
    """Running number, group, place in the group and parameter, in the order that is the same in every process."""
    number = 0
    for group_place, group in enumerate(optimizer.param_groups):
        for place, parameter in enumerate(group["params"]):
            yield number, group_place, place, parameter
            number += 1


def state(optimizer: torch.optim.Optimizer, *, keep: bool = True) -> tuple[dict[str, Tensor], dict[str, Number]]:
    """The state as tensors and plain numbers, each named NUMBER.NAME after its parameter.

    Where weights are cut all ranks have to ask; one that does not `keep` what it is given gets nothing.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Number] = {}
    for number, _, _, parameter in _parameters(optimizer):
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                full = whole(value.detach())
                if keep:
                    # Quantisation maps are shared between parameters, and safetensors refuses shared memory.
                    tensors[f"{number}.{name}"] = full.to("cpu", copy=True).contiguous()
            elif keep:
                numbers[f"{number}.{name}"] = value
    return tensors, numbers


def restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, Number]) -> None:
    """Put a state back, bit for bit.

    Not through `load_state_dict`: it casts states to their parameter's type, which loses bits when weights are 16-bit.
    """
    saved: dict[int, dict[str, Tensor | Number]] = {}
    for key, value in [*tensors.items(), *numbers.items()]:
        digits, _, name = key.partition(".")
        saved.setdefault(int(digits), {})[name] = value
    for number, group_place, place, parameter in _parameters(optimizer):
        if number not in saved:
            continue
        values = saved[number]
        if type(optimizer).__module__.startswith("bitsandbytes."):
            _fill(optimizer, group_place, place, values)
        else:
            optimizer.state[parameter] = {
                name: _beside(value, parameter) if isinstance(value, Tensor) else value
                for name, value in values.items()
            }


def _beside(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """A state where its parameter is, and cut as that is where it belongs to each of its numbers."""
    return part(value, parameter) if value.shape == parameter.shape else value.to(parameter.device)


def _fill(
    optimizer: torch.optim.Optimizer, group_place: int, place: int, values: Mapping[str, Tensor | Number]
) -> None:
    """bitsandbytes makes the buffers, which may be paged; they are filled in place so that they stay so."""
    from bitsandbytes.optim.optimizer import Optimizer8bit

    assert isinstance(optimizer, Optimizer8bit)
    group = optimizer.param_groups[group_place]
    parameter = group["params"][place]
    optimizer.init_state(group, parameter, group_place, place)
    stood = optimizer.state[parameter]
    for name, value in values.items():
        stood[name] = stood[name].copy_(value) if isinstance(value, Tensor) else value
