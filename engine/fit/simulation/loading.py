"""Weights get their storage, in the order in which the engine brings them to a GPU: the base's, then the adapter's.

Those of quantised modules come in 16 bits, one by one, and are quantised there by bitsandbytes' own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.nn.modules import Int8Params, Linear4bit, Linear8bitLt, Params4bit
from peft import PeftModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from engine.fit.question import Part
from engine.fit.simulation.tracing import Tracer, tensors
from engine.profile import Model
from engine.train import quantized
from engine.train.quantized import DTYPES


def prepare() -> None:
    """Make what bitsandbytes makes once a process, so that it is not made of fake tensors."""
    bnb.functional.name2qmap.setdefault("dynamic", bnb.functional.create_dynamic_map())


def load(model: nn.Module, settings: Model, tracer: Tracer) -> None:
    """Fake storage for all parameters and buffers of a model on the meta device, inside of the tracer; what is shared stays shared."""
    _fill_all(model, DTYPES[settings.dtype])
    if settings.quantization != "none":
        quantized.keep_exact(
            model
        )  # also where a GPU is stood for: bitsandbytes sees a CPU, and would pack weights anew for it
    tracer.mark(Part.WEIGHTS, (*model.parameters(), *model.buffers(), *_scales(model)))
    if isinstance(model, PeftModel):
        tracer.mark(Part.ADAPTER, (parameter for parameter in model.parameters() if parameter.requires_grad))


def _scales(model: nn.Module) -> Iterator[Tensor]:
    """What quantised weights are read with, which is no parameter."""
    for module in quantized.layers(model).values():
        if isinstance(module, Linear4bit):
            state = module.quant_state
            nested = state.state2 if state else None  # of scales that are quantised themselves
            yield from tensors(*(vars(each) for each in (state, nested) if each))
        elif isinstance(module, Linear8bitLt):
            yield from tensors(vars(module.state))


def _fill_all(model: nn.Module, dtype: torch.dtype) -> None:
    stood: dict[int, Tensor] = {}
    quantised = {id(module) for module in quantized.layers(model).values()}
    for trained in (False, True):
        for module in model.modules():
            if id(module) in quantised and not trained:
                quantise(module, torch.empty(module._parameters["weight"].shape, dtype=dtype))  # type: ignore[union-attr]
            _fill(module, stood, lambda tensor: tensor.requires_grad is trained)  # noqa: B023 - called at once


def _fill(module: nn.Module, stood: dict[int, Tensor], wanted: Callable[[Tensor], bool]) -> None:
    places: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, vars(module))
    for held in places:
        for name, tensor in held.items():
            if not isinstance(tensor, Tensor) or tensor.device.type != "meta" or not wanted(tensor):
                continue
            if id(tensor) not in stood:
                fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
                is_parameter = isinstance(tensor, nn.Parameter)
                stood[id(tensor)] = nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
            held[name] = stood[id(tensor)]


def quantise(module: nn.Module, whole: Tensor) -> None:
    """Its weight, as `Params4bit` and `Int8Params` do when they are moved to a GPU with these values."""
    stood = module._parameters["weight"]
    if isinstance(module, Linear4bit):
        assert isinstance(stood, Params4bit)
        codes, state = bnb.functional.quantize_4bit(
            whole,
            blocksize=stood.blocksize,
            compress_statistics=stood.compress_statistics,
            quant_type=stood.quant_type,
            quant_storage=stood.quant_storage,
        )
        module._parameters["weight"] = _like(Params4bit, codes, quant_state=state, bnb_quantized=True)
        module.quant_state = state
    elif isinstance(module, Linear8bitLt):
        assert isinstance(stood, Int8Params)
        codes, scales, _ = bnb.functional.int8_vectorwise_quant(whole.to(torch.float16))
        module._parameters["weight"] = _like(Int8Params, codes, CB=codes, SCB=scales, has_fp16_weights=False)


def _like(kind: type[nn.Parameter], codes: Tensor, **state: object) -> nn.Parameter:
    """A fake parameter that says of itself what `kind` does: making one of `kind` loses that it is fake."""
    return _called(nn.Parameter(codes, requires_grad=False), kind, **state)


def _called(parameter: nn.Parameter, kind: type[nn.Parameter], **state: object) -> nn.Parameter:
    parameter.__class__ = type(kind.__name__, (FakeTensor,), {})
    vars(parameter).update(state)
    return parameter


def read_again(layer: nn.Module) -> None:
    """Of a layer that FSDP has gathered: its packed weights say how they are to be read, as bitsandbytes has them do at every forward pass."""
    for module in quantized.layers(layer).values():
        weight = module._parameters["weight"]
        if isinstance(module, Linear4bit) and weight is not None:
            _called(weight, Params4bit, quant_state=module.quant_state, bnb_quantized=True)
